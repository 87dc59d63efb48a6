"""What the gateway keeps on its own disk while no broker answers: groups of records with their state, in order.

    {folder}/{first number:020d}.spool      entries: length (4 bytes), CRC32C of the rest (4), number and payload
    {folder}/lock                           held by the gateway that writes here

An entry is on disk (fsync) before anybody is told. A torn entry at the very end was never acknowledged, and is cut
off; anything else that does not fit its checksum is an error. A segment goes when the log has all of its entries.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from crc32c import crc32c

from ingest.errors import GatewayError, LogBroken, LogCorrupt, LogFull, SpoolFull
from ingest.log import Append

SEGMENT_BYTES = 16 << 20
_HEAD = struct.Struct("<IIQ")  # length of the payload, checksum of number and payload, number
_NUMBER = struct.Struct("<Q")


class Spooled(msgspec.Struct, frozen=True):
    """One commit that was not possible: its records, and the state to be set with them."""

    appends: tuple[Append, ...]
    state: Mapping[str, bytes | None]


_spooled = msgspec.msgpack.Decoder(Spooled)


class _Place(msgspec.Struct, frozen=True):
    number: int
    segment: Path
    offset: int
    size: int


class Spool:
    """A queue of commits on disk, of at most `max_bytes`. Use from one thread."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise GatewayError(f"{folder} is another gateway's spool; give this one a log.folder of its own") from None
        self._queue: deque[_Place] = deque()
        self._open: int | None = None
        self._segment: Path | None = None
        self._written = 0
        self.bytes = 0
        self._last = 0
        for path in sorted(folder.glob("*.spool")):
            self._scan(path)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def nearly_full(self) -> bool:
        """Whether four fifths are taken."""
        return self.bytes > self._max_bytes * 4 // 5

    def put(self, appends: Sequence[Append], state: Mapping[str, bytes | None]) -> None:
        """Keep a commit; it is on disk when this returns. Raises `SpoolFull` over the bound, `LogFull` of the disk."""
        payload = msgspec.msgpack.encode(Spooled(tuple(appends), state))
        size = _HEAD.size + len(payload)
        if self.bytes + size > self._max_bytes:
            raise SpoolFull(f"no broker answers, and {self.bytes} bytes of at most {self._max_bytes} are spooled")
        number = self._last + 1
        if self._open is None or self._written >= SEGMENT_BYTES:
            self._begin(number)
        assert self._open is not None
        assert self._segment is not None
        numbered = _NUMBER.pack(number) + payload
        before = self._written
        try:
            _write(self._open, _HEAD.pack(len(payload), crc32c(numbered), number) + payload)
            os.fdatasync(self._open)
        except OSError as error:
            raise self._failed(error, before) from error
        self._queue.append(_Place(number, self._segment, before, size))
        self._written += size
        self.bytes += size
        self._last = number

    def first(self, max_bytes: int) -> list[tuple[int, Spooled]]:
        """The oldest entries with their numbers: one, or as many as fit in `max_bytes`."""
        found: list[tuple[int, Spooled]] = []
        size = 0
        for place in self._queue:
            size += place.size
            if found and size > max_bytes:
                break
            with place.segment.open("rb") as file:
                file.seek(place.offset)
                found.append((place.number, _decode(file.read(place.size), place.segment, place.offset)))
        return found

    def forget(self, through: int) -> None:
        """The log has all entries up to this number."""
        while self._queue and self._queue[0].number <= through:
            place = self._queue.popleft()
            self.bytes -= place.size
            if not self._queue or self._queue[0].segment != place.segment:
                self._remove(place.segment)

    def close(self) -> None:
        """Let another process have it; what is in it stays."""
        if self._open is not None:
            os.close(self._open)
            self._open = None
        os.close(self._lock)

    def _begin(self, number: int) -> None:
        if self._open is not None:
            os.close(self._open)
        self._segment = self._folder / f"{number:020d}.spool"
        self._open = os.open(self._segment, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._written = 0
        self._sync_folder()

    def _remove(self, segment: Path) -> None:
        if segment == self._segment and self._open is not None:
            os.close(self._open)
            self._open = self._segment = None
        segment.unlink(missing_ok=True)
        self._sync_folder()

    def _failed(self, error: OSError, before: int) -> LogFull | LogBroken:
        assert self._open is not None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            os.ftruncate(self._open, before)
            os.lseek(self._open, before, os.SEEK_SET)
            return LogFull(f"{self._segment}: no space is left; nothing was kept")
        return LogBroken(f"{self._segment}: a write failed ({error}); restart this process")

    def _scan(self, path: Path) -> None:
        content = path.read_bytes()
        offset = 0
        while offset < len(content):
            head = content[offset : offset + _HEAD.size]
            length, checksum, number = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0, 0)
            end = offset + _HEAD.size + length
            numbered = _NUMBER.pack(number) + content[offset + _HEAD.size : end]
            if len(head) < _HEAD.size or end > len(content) or crc32c(numbered) != checksum:
                if end < len(content) and len(head) == _HEAD.size:
                    raise LogCorrupt(
                        f"{path}: the entry at byte {offset} is damaged, and others follow; steps that were "
                        "acknowledged are in there: restore the file, or move it away and accept their loss"
                    )
                break  # torn: it was never acknowledged
            self._queue.append(_Place(number, path, offset, end - offset))
            self._last = number
            self.bytes += end - offset
            offset = end
        if offset == 0:
            path.unlink()
        elif offset < len(content):
            os.truncate(path, offset)

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _decode(data: bytes, path: Path, offset: int) -> Spooled:
    length, checksum, number = _HEAD.unpack(data[: _HEAD.size])
    payload = data[_HEAD.size :]
    if len(payload) != length or crc32c(_NUMBER.pack(number) + payload) != checksum:
        raise LogCorrupt(f"{path}: the entry at byte {offset} is damaged; restore the file from a copy")
    return _spooled.decode(payload)
