"""Python imports this by itself where it is on the path (https://docs.python.org/3/library/site.html): the process that
fetches versions is killed right before its k-th call that reaches the file system, KILL_FETCHER_AT of its environment,
once in a trial."""

import os
import signal
import sys
import threading
from pathlib import Path
from types import BuiltinFunctionType, FrameType

MODULES = {"posix", "fcntl", "_io", "io"}
"""As for other writers that are killed."""


class Killer:
    """Counts from the process's own first line on."""

    def __init__(self, at: int, mark: Path) -> None:
        self._at, self._mark = at, mark
        self._seen, self._counts = 0, False

    def __call__(self, frame: FrameType, event: str, called: object) -> None:
        if event == "call" and frame.f_code.co_name == "main" and frame.f_code.co_filename.endswith("fetching.py"):
            self._counts = True
        if not self._counts or event != "c_call" or not isinstance(called, BuiltinFunctionType):
            return
        owner = getattr(called, "__self__", None)
        if (called.__module__ or type(owner).__module__) in MODULES and called.__name__ not in {"getpid", "fspath"}:
            self._seen += 1
            if self._seen == self._at:
                sys.setprofile(None)
                self._mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)


if "publish.fetching" in sys.orig_argv and "KILL_FETCHER_AT" in os.environ:
    killed = Path(os.environ["KILL_POINTS_TRIAL"]) / "killed"
    if not killed.exists():
        killer = Killer(int(os.environ["KILL_FETCHER_AT"]), killed)
        threading.setprofile(killer)
        sys.setprofile(killer)
