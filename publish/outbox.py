"""The hand-over from the trainer to the publisher: a directory, so that either may die and neither waits.

    waiting/0000000012-seg3-400/   ticket.json and files/…, one folder an entry, visible by one rename
    taken/…                        what the publisher works on
    rejected/…                     the last one that could never be published
    committed/…                    the files of the version that was committed last, for the next one's delta
    tmp/ lock publisher.lock       what is being written, the writers' lock, the publisher's

The newest entry of a channel is never lost; older ones that were not published yet give way to it and are counted.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from publish import durable
from publish.errors import OutboxError, OutboxLocked
from publish.manifest import check_names
from publish.pointer import check_channel

logger = logging.getLogger(__name__)

FORMAT = 1
TICKET = "ticket.json"
FILES = "files"
KEPT = 4
_ENTRY = re.compile(r"\d{10}-")
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Ancestor(msgspec.Struct, frozen=True):
    """An older segment of the chain, and the step at which its successor forked from it."""

    segment: str
    step: int


class Ticket(msgspec.Struct, frozen=True):
    """What the trainer says of the weights that it hands over; the fields of the manifest of that name.

    `consumed` is a dump of consumed positions; `ancestors` lead from the parent segment to the root, so that the
    version's parent can be found; `command` is the uuid of the command that asked for it, empty when none did.
    """

    run: str
    branch: str
    segment: str
    step: int
    ema: bool
    channel: str = "stable"
    ancestors: tuple[Ancestor, ...] = ()
    consumed: Mapping[str, Any] = {}
    watermark: Mapping[str, Mapping[str, tuple[int, int]]] = {}
    weights: Mapping[str, float] = {}
    newest_sample_time: float | None = None
    evaluation: Mapping[str, Any] = {}
    command: str = ""
    created_at: float = msgspec.field(default_factory=time.time)
    format: int = FORMAT

    @property
    def origin(self) -> tuple[str, str, int, bool]:
        """What identifies the weights: run, segment, step, and EMA or raw."""
        return self.run, self.segment, self.step, self.ema


_decode_ticket = msgspec.json.Decoder(Ticket).decode


@dataclass(frozen=True)
class Entry:
    """One hand-over as it lies in the outbox."""

    path: Path
    counter: int
    ticket: Ticket

    @property
    def folder(self) -> Path:
        """Where the files lie, as `from_pretrained` reads them."""
        return self.path / FILES

    @property
    def files(self) -> Mapping[str, Path]:
        """The files by their names in the version."""
        root = self.folder
        return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


@dataclass(frozen=True)
class Broken:
    """A folder in the outbox that is no entry, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Placed:
    """What `put` did: the new entry, and the tickets of older ones that gave way to it because nobody published."""

    entry: Entry
    dropped: Sequence[Ticket]


class Written:
    """Weights in a folder that nobody sees yet; see `written`."""

    def __init__(self, outbox: Path, ticket: Ticket, staged: Path) -> None:
        self.ticket = ticket
        self._outbox, self._staged = outbox, staged

    def place(self, kept: int = KEPT) -> Placed:
        """Make them durable, then visible. Beyond `kept` waiting entries of the ticket's channel the oldest are dropped."""
        if kept < 1:
            raise ValueError(f"kept: {kept}, but the newest is never lost; give 1 or more")
        folder, ticket = self._staged / "entry", self.ticket
        waiting, taken = self._outbox / "waiting", self._outbox / "taken"
        durable.write_file(folder / TICKET, msgspec.json.encode(ticket))
        durable.sync_tree(folder)
        with durable.locked(self._outbox / "lock"):
            counter = 1 + max((counter for counter, _ in _listed(waiting, taken)), default=0)
            target = waiting / f"{counter:010d}-{ticket.segment}-{ticket.step}"
            os.rename(folder, target)
            durable.sync_folder(waiting)
            dropped = _drop_oldest(waiting, ticket.channel, kept, self._staged)
        return Placed(Entry(target, counter, ticket), dropped)


@contextmanager
def written(outbox: Path, write: Callable[[Path], object], ticket: Ticket) -> Iterator[Written]:
    """Write weights, unsynced; what has not been placed when the block ends is gone.

    `write` fills an empty folder with safetensors and their configuration, as `save_pretrained` does. Raises
    FileNotAllowed for any other file.
    """
    if not _SEGMENT.fullmatch(ticket.segment):
        raise ValueError(f"segment {ticket.segment!r}: it names a folder; use letters, digits, '.', '_' and '-'")
    check_channel(ticket.channel)
    durable.make_folder(outbox / "waiting")
    with durable.staging(outbox / "tmp") as staged:
        folder = staged / "entry"
        (folder / FILES).mkdir(parents=True)
        write(folder / FILES)
        names = list(Entry(folder, 0, ticket).files)
        check_names(names)
        if not any(name.endswith(".safetensors") for name in names):
            raise OutboxError(f"{ticket.segment} step {ticket.step}: no *.safetensors among {names}; write the weights")
        yield Written(outbox, ticket, staged)


def put(outbox: Path, write: Callable[[Path], object], ticket: Ticket, *, kept: int = KEPT) -> Placed:
    """Hand weights over; durable on return, invisible until then. See `written` and `Written.place`."""
    with written(outbox, write, ticket) as entry:
        return entry.place(kept)


def _drop_oldest(waiting: Path, channel: str, kept: int, bin_: Path) -> list[Ticket]:
    same = [entry for entry in _read(waiting) if isinstance(entry, Entry) and entry.ticket.channel == channel]
    dropped = []
    for entry in same[:-kept]:
        try:
            os.rename(entry.path, bin_ / entry.path.name)
        except FileNotFoundError:
            continue  # the publisher took it in between
        dropped.append(entry.ticket)
    return dropped


def _listed(*folders: Path) -> list[tuple[int, Path]]:
    """Counters and paths of the entries in these folders, oldest first."""
    found = []
    for folder in folders:
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            continue
        found += [(int(name.partition("-")[0]), folder / name) for name in names if _ENTRY.match(name)]
    return sorted(found)


def _read(*folders: Path) -> Iterator[Entry | Broken]:
    """The entries in these folders, oldest first."""
    for counter, path in _listed(*folders):
        try:
            ticket = _decode_ticket((path / TICKET).read_bytes())
        except FileNotFoundError:
            if path.exists():
                yield Broken(path, f"it has no {TICKET}")
            continue  # else it was taken or dropped in between
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            yield Broken(path, str(error))
            continue
        if ticket.format == FORMAT:
            yield Entry(path, counter, ticket)
        else:
            yield Broken(path, f"a ticket of format {ticket.format}; only {FORMAT} is known here")


class Outbox:
    """The publisher's side. `poll` is the seconds between two looks of `wait`."""

    def __init__(self, path: Path, poll: float = 0.01) -> None:
        self._path = path
        self._poll = poll
        self._stamp: tuple[int, int] | None = None

    @property
    def committed(self) -> Path:
        """Where the publisher keeps what it committed last."""
        return self._path / "committed"

    @property
    def scratch(self) -> Path:
        """Where the publisher prepares it; what a killed one left there is swept when the outbox is served again."""
        return self._path / "tmp"

    @contextmanager
    def served(self) -> Iterator[None]:
        """Be the only publisher of this outbox. Raises OutboxLocked where another is."""
        durable.make_folder(self._path / "waiting")
        durable.make_folder(self._path / "taken")
        try:
            with durable.locked(self._path / "publisher.lock", wait=False):
                durable.sweep(self.scratch)
                yield
        except BlockingIOError as error:
            raise OutboxLocked(f"{self._path}: another publisher serves this outbox; stop it first") from error

    def pending(self) -> Sequence[Entry]:
        """Everything not yet finished, oldest first; what was taken before a crash is among it.

        What is no entry is put aside, so that it does not stand in the way of the newest.
        """
        self._stamp = _stamp(self._path / "waiting")
        entries = []
        for found in list(_read(self._path / "waiting", self._path / "taken")):
            if isinstance(found, Entry):
                entries.append(found)
            else:
                logger.error("%s is put aside: %s", found.path, found.reason)
                self.reject(found.path)
        return entries

    def take(self, entry: Entry) -> Entry | None:
        """Make an entry the publisher's, so that no writer drops it; None if it was dropped just now."""
        target = self._path / "taken" / entry.path.name
        if entry.path == target:
            return entry
        try:
            os.rename(entry.path, target)
        except FileNotFoundError:
            return None
        return Entry(target, entry.counter, entry.ticket)

    def finish(self, entry: Entry) -> None:
        """Delete an entry that was published or gave way. Not synced: published again, it changes nothing."""
        with durable.staging(self.scratch) as bin_, suppress(FileNotFoundError):
            os.rename(entry.path, bin_ / "entry")

    def reject(self, path: Path) -> None:
        """Move what can never be published to `rejected/`, for people to look at; the latest one stays there."""
        aside = self._path / "rejected"
        durable.make_folder(aside)
        with durable.staging(self.scratch) as bin_:
            for older in aside.iterdir():
                os.rename(older, bin_ / older.name)
            with suppress(FileNotFoundError):
                os.rename(path, aside / path.name)

    def wait(self, timeout: float) -> None:
        """Return when something was put since the last `pending`, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while _stamp(self._path / "waiting") == self._stamp and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(self._poll, left))


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Changes with the folder's entries: its clock, and within one tick of it, mostly, its number of subfolders."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_nlink
