"""Not faster than allowed: a token bucket, for bytes on a line and for commits that a hub counts."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path


class Bucket:
    """Holds up to `capacity` tokens, full at first, and gets `rate` more a second. Shared between threads."""

    def __init__(self, rate: float, capacity: float, clock: Callable[[], float] = time.monotonic) -> None:
        if rate <= 0 or capacity <= 0:
            raise ValueError(f"a bucket of {capacity:g} tokens and {rate:g} a second lets nothing through; give more")
        self._rate, self._capacity, self._clock = rate, capacity, clock
        self._tokens, self._at = capacity, clock()
        self._lock = threading.Lock()

    def take(self, tokens: float, *, leave: float = 0.0) -> float:
        """Take tokens if that leaves `leave` or more, and return 0; else take none, and return the seconds until it
        would."""
        with self._lock:
            self._fill()
            missing = tokens + min(leave, self._capacity - tokens) - self._tokens
            if missing > 0:
                return missing / self._rate
            self._tokens -= tokens
            return 0.0

    def spend(self, tokens: float) -> float:
        """Take tokens, also those that are not there yet; the seconds to wait before doing what they are for."""
        with self._lock:
            self._fill()
            self._tokens -= tokens
            return max(0.0, -self._tokens / self._rate)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now


class LimitedFile(io.BufferedIOBase):
    """A file that is read no faster than its bucket of bytes lets it."""

    def __init__(self, path: Path, bucket: Bucket | None, sleep: Callable[[float], object] = time.sleep) -> None:
        self._file = path.open("rb")
        self._bucket, self._sleep = bucket, sleep

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, when they may go out."""
        data = self._file.read(-1 if size is None else size)
        if self._bucket is not None and data:
            self._sleep(self._bucket.spend(len(data)))
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()
