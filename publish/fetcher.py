"""Fetches, verifies and rebuilds versions in a process of its own, so that whoever is served beside it feels none of it.

Threads would be felt: they and the requests share one interpreter, and a nice thread that holds it makes all others wait.

The process comes after all others, ends with the one that started it, and is started again where it died. It is told
lines of JSON and answers with lines of JSON; what it puts into the cache is verified there, as the cache always does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from publish import errors
from publish.errors import HubUnavailable, PublishError
from publish.hub import ReadableHub
from publish.pointer import Pointer
from publish.settings import FollowSettings


@dataclass(frozen=True)
class Fetched:
    """What `Cache.obtain` says, but for the manifest, which whoever asked reads from the cache."""

    received: int
    links: int


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version to obtain, which is answered; or the digests of those to keep and no others, which is not."""

    pointer: Pointer | None = None
    keep: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`kind` is the name of an exception, empty where all went well."""

    received: int = 0
    links: int = 0
    kind: str = ""
    error: str = ""
    retry_after: float = 0.0


_decode_answer = msgspec.json.Decoder(Answer).decode


class Fetcher:
    """One per cache, whose lock its owner holds. `place` is what `followers_hub` makes the hub of, with the cache and the
    trusted keys."""

    def __init__(self, place: FollowSettings) -> None:
        self._place = place
        self._lock = threading.Lock()  # guards the process
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def start(self) -> None:
        """Start the process where there is none, so that the first version does not wait for it. Raises OSError."""
        with self._lock:
            if self._closed or (self._process is not None and self._process.poll() is None):
                return
            self._end()
            root = str(Path(__file__).parents[1])
            path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "publish.fetching"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            say(self._process.stdin, self._place.model_dump_json().encode())

    def obtain(self, pointer: Pointer) -> Fetched:
        """Have the version that a verified pointer names put into the cache. Raises what `Cache.obtain` raises, and
        PublishError where the process dies or cannot be started."""
        try:
            self.start()
            with self._lock:
                process = self._process
            if process is None:
                raise PublishError("the fetcher is closed")
            say(process.stdin, msgspec.json.encode(Order(pointer)))
            line = process.stdout.readline() if process.stdout else b""
        except OSError as error:
            raise PublishError(
                f"the process that fetches versions does not run ({error}); it is started again"
            ) from error
        if not line.endswith(b"\n"):
            raise PublishError(
                f"the process that fetches versions ended ({process.wait()}) with version {pointer.version:06d}; "
                "it is started again"
            )
        answer = _decode_answer(line)
        if answer.kind:
            raise _error(answer)
        return Fetched(answer.received, answer.links)

    def prune(self, keep: Iterable[str]) -> None:
        """Have every version but these digests deleted, soon; where the process is gone, the next time."""
        with self._lock:
            process = self._process
        with suppress(OSError):
            if process is not None:
                say(process.stdin, msgspec.json.encode(Order(keep=tuple(keep))))

    def close(self) -> None:
        """End the process, whatever it does; the cache forgets what was not whole."""
        with self._lock:
            self._closed = True
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except OSError:  # what was left to say to a process that is gone
                    continue


def place_of(hub: ReadableHub, cache: Path, keys: tuple[str, ...]) -> FollowSettings:
    """What a process of its own is told. Raises ValueError for a hub that cannot be opened a second time."""
    place = getattr(hub, "place", None)
    if not isinstance(place, FollowSettings):
        raise ValueError(
            f"{hub.name}: only a hub that says how it is opened again (`place`) can be followed from a process of its "
            "own; leave `apart` out"
        )
    return place.model_copy(update={"cache": cache.absolute(), "trusted_keys": keys})


def say(pipe: IO[bytes] | None, line: bytes) -> None:
    assert pipe is not None
    pipe.write(line + b"\n")
    pipe.flush()


def _error(answer: Answer) -> Exception:
    if answer.kind == HubUnavailable.__name__:
        return HubUnavailable(answer.error, answer.retry_after)
    kind = getattr(errors, answer.kind, None)
    if isinstance(kind, type) and issubclass(kind, PublishError):
        return kind(answer.error)
    return PublishError(f"{answer.kind}: {answer.error}")
