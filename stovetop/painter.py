"""What a version paints: an app's plug-in, run in a process of its own that may be slow, fail or hang.

The process comes after all others, is asked for one version at a time, and is ended when it takes too long. It ends by
itself when whoever asks is gone.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from control.api.samples import MOST_SAMPLE_BYTES, MOST_SAMPLES
from ingest.errors import PluginError
from ingest.plugins import load_plugin
from stovetop.errors import ConfigurationError, StovetopError

Painting = Callable[[Path], Mapping[str, Any] | Sequence[Any]]
"""An app's plug-in: a version's folder to pictures, by what they show or in order. A picture is a PNG file's bytes, a
`PIL.Image.Image`, or an array of uint8, [height, width] or [height, width, 3 or 4]."""

NICE = 19
LONGEST_WORD = MOST_SAMPLES * MOST_SAMPLE_BYTES + (64 << 10)
START_SECONDS = 120.0
"""For the process to import what the plug-in needs, which may be a whole training library."""


class Painted(msgspec.Struct, frozen=True):
    """What the process says: PNG files by what they show, or why there are none."""

    pictures: Mapping[str, bytes] = {}
    problem: str = ""


_decode_painted = msgspec.msgpack.Decoder(Painted).decode


class PaintingFailed(StovetopError):
    """There are no pictures of this version, and why."""


class Painter:
    """Asks the plug-in at `reference` (`module:name`) for pictures, for at most `seconds` each time."""

    def __init__(self, reference: str, seconds: float) -> None:
        self._reference, self._seconds = reference, seconds
        self._process: Any = None
        self._line: Connection | None = None

    def paint(self, folder: Path) -> Mapping[str, bytes]:
        """PNG files by what they show, of the version whose files lie in `folder`. Raises PaintingFailed, and
        ConfigurationError where there is no such plug-in."""
        told = self._ask(self._line or self._start(), folder)
        if told.problem:
            raise PaintingFailed(f"{self._reference}: {told.problem}")
        return told.pictures

    def close(self) -> None:
        """End the process, by force: what it does is worth nothing now."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._line is not None:
            self._line.close()
        self._process = self._line = None

    def _ask(self, line: Connection, folder: Path) -> Painted:
        try:
            with contextlib.suppress(OSError):  # it has ended, as is heard next
                line.send_bytes(os.fsencode(folder))
            return self._hear(line, self._seconds)
        except PaintingFailed:
            self.close()
            raise

    def _start(self) -> Connection:
        spawning = multiprocessing.get_context("spawn")
        ours, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_work, args=(self._reference, theirs), name="painter", daemon=True)
        self._process.start()
        self._line = ours
        theirs.close()
        try:
            ready = self._hear(ours, START_SECONDS)
        except PaintingFailed:
            self.close()
            raise
        if ready.problem:
            self.close()
            raise ConfigurationError(ready.problem)
        return ours

    def _hear(self, line: Connection, seconds: float) -> Painted:
        """The next word of the process. Raises PaintingFailed where none comes."""
        try:
            if not line.poll(seconds):
                raise PaintingFailed(f"{self._reference} took more than {seconds:g} s; it was ended")
            return _decode_painted(line.recv_bytes(LONGEST_WORD))
        except (EOFError, OSError, msgspec.DecodeError) as error:
            raise PaintingFailed(f"{self._reference}: its process ended without a word") from error


def _work(reference: str, line: Connection) -> None:
    """The process: says that it is ready, then answers folders with pictures, or with why there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICE)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_watch_parent, name="parent", daemon=True).start()

    def say(told: Painted) -> None:
        line.send_bytes(msgspec.msgpack.encode(told))

    with contextlib.suppress(EOFError, OSError):  # nobody asks any more
        try:
            paint: Painting = load_plugin(reference)
        except PluginError as error:
            return say(Painted(problem=str(error)))
        say(Painted())
        while True:
            say(_painted(paint, Path(os.fsdecode(line.recv_bytes()))))


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _painted(paint: Painting, folder: Path) -> Painted:
    try:
        return Painted(as_files(paint(folder)))
    except Exception as error:  # the app's own; it costs the version its pictures and nothing else
        return Painted(problem=f"it failed ({type(error).__name__}: {error})")


def as_files(painted: Mapping[str, Any] | Sequence[Any]) -> dict[str, bytes]:
    """PNG files by what they show. Raises ValueError or TypeError for what is no picture, or for too much of it."""
    named = painted if isinstance(painted, Mapping) else {f"sample {n}": one for n, one in enumerate(painted, 1)}
    if not 0 < len(named) <= MOST_SAMPLES:
        raise ValueError(f"{len(named)} pictures; give 1 to {MOST_SAMPLES}")
    files = {str(label): _as_file(picture) for label, picture in named.items()}
    for label, file in files.items():
        if len(file) > MOST_SAMPLE_BYTES:
            raise ValueError(f"{label!r} has {len(file)} bytes as PNG, at most {MOST_SAMPLE_BYTES}; make it smaller")
    return files


def _as_file(picture: Any) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise TypeError(
                f"an array of {picture.dtype} {list(picture.shape)} is no picture; give uint8 [height, width, 3]"
            )
        picture = Image.fromarray(picture)
    if not isinstance(picture, Image.Image):
        raise TypeError(f"{type(picture).__name__} is no picture; give PNG bytes, a PIL image or an array of uint8")
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
