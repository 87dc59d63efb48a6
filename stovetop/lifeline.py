"""How a role learns that its supervisor is gone, however it went.

The supervisor holds the write end of a pipe and hands the read end to each role. When the supervisor ends, also by
kill -9, the kernel closes the write end, the role reads the end of file and stops: no orphan is left.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import IO

LIFELINE = "STOVETOP_LIFELINE_FD"
GRACE = 15.0
"""Seconds between the polite signal to oneself and the end by force."""

logger = logging.getLogger(__name__)


class RoleLocked(RuntimeError):
    """Another process plays this role on the same data."""


def watch_lifeline(grace: float = GRACE) -> None:
    """End this process when its supervisor does: SIGTERM to itself first, `os._exit` after `grace` seconds.

    Without a supervisor (the variable is unset) this does nothing.
    """
    descriptor = os.environ.pop(LIFELINE, None)
    if descriptor is None:
        return
    threading.Thread(target=_watch, args=(int(descriptor), grace), name="lifeline", daemon=True).start()


def _watch(descriptor: int, grace: float) -> None:
    while os.read(descriptor, 1):
        pass  # nothing is ever written; a byte would mean nothing
    logger.warning("the supervisor is gone: stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(70)


def hold_role(data: Path, role: str) -> IO[str]:
    """Lock `role` on this data folder until the returned file is closed (or the process ends, however).

    Raises `RoleLocked`, naming the process that holds it.
    """
    folder = data / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"{role}.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise RoleLocked(
            f"{role} already runs on {data} (process {holder}); stop it, or set another data folder"
        ) from None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file
