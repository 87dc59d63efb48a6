"""The source for base data: WebDataset shards, in folders or in S3, that may keep growing, in a new order every epoch."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from dataset.decoding import BAD_LIMIT, Decode, Decoder, as_members
from dataset.errors import SourceError, StateError
from dataset.in_place import Files
from dataset.order import EpochOrder
from dataset.planning import Finisher, Loaded, Planned, next_item
from dataset.positions import IntervalSet
from dataset.remote import DEFAULT_OPTIONS, RemoteOptions, RemoteTar, RemoteTars, is_remote, refuse_archive
from dataset.runs import Decoded, next_run
from dataset.source import Item, Run, Share, SourceStats
from dataset.tar import Stretch, TarShard
from ingest.deletions import Deletions

logger = logging.getLogger(__name__)

_TOGETHER = 8  # samples that are read before they are decoded: each of the two is quicker where it is not interrupted


class Listing(msgspec.Struct, frozen=True):
    """Shards that are read from an epoch on, after those of the listings before, with the number of their samples.

    Names are relative to the source.
    """

    from_epoch: int
    names: tuple[str, ...]
    samples: int


class _Saved(msgspec.Struct, frozen=True):
    listings: tuple[Listing, ...]


@dataclass(frozen=True)
class ShardSource:
    """Reads tars: all below a folder or an `s3://bucket/prefix`, those of a list of paths, or one; each once an epoch.

    The order of an epoch is a function of the seed and the number of samples (the shards' own without `shuffle`).
    Positions are (epoch, place in that order). A folder may grow: shards that are published in it, whole, under new
    names, are read from the next epoch on; while several ranks read it, they are not, as all must see the same
    (merge and load the states of all ranks before the first batch, and all read what rank 0 saw). Samples that belong to
    sessions in `deletions` are passed over; their places stay.
    """

    paths: Path | str | Sequence[Path | str]
    decode: Decode = as_members
    shuffle: bool = True
    epochs: int | None = None
    bad_limit: int = BAD_LIMIT
    deletions: Deletions | None = None
    remote: RemoteOptions = DEFAULT_OPTIONS

    one_state: ClassVar[bool] = True
    has_epochs: ClassVar[bool] = True

    @property
    def fingerprint(self) -> str:
        """The folder's name, or the files'; which shards they are is in the state."""
        return f"shards:{self.label}"

    @property
    def label(self) -> str:
        """What the shards are called in messages."""
        if isinstance(self.paths, (str, Path)):
            return Path(self.paths).name
        return ",".join(Path(path).name for path in self.paths)

    @property
    def remote_tars(self) -> RemoteTars | None:
        """The shards in S3, where `paths` is an address there."""
        return RemoteTars(self.paths, self.remote) if isinstance(self.paths, str) and is_remote(self.paths) else None

    def listed(self) -> Iterable[str]:
        """The names of the shards that are there now, in order."""
        found = list(self._local())
        refuse_archive(self.label, found)
        return found

    def shard(self, name: str) -> TarShard:
        """A shard in a folder, indexed."""
        return TarShard(self.path_of(name))

    def _local(self) -> dict[str, Path]:
        if not isinstance(self.paths, (str, Path)):
            return {str(path): Path(path) for path in self.paths}
        root = Path(self.paths)
        if root.is_file():
            return {root.name: root}
        found = (path for path in root.rglob("*.tar") if not any(part.startswith(".") for part in path.parts))
        return {str(path.relative_to(root)): path for path in sorted(found)}

    def path_of(self, name: str) -> Path:
        """Where a shard lies."""
        if not isinstance(self.paths, (str, Path)):
            return Path(name)
        root = Path(self.paths)
        alone = root.is_file() or (name == root.name and not root.is_dir())  # also where it is gone by now
        return root if alone else root / name

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> ShardReader:
        """A reader of one share. Raises `SourceError` for a shard that is torn or gone."""
        return ShardReader(self, share, consumed, state)

    def loader(self) -> ShardLoader:
        """Reads and decodes samples, in the calling process."""
        return ShardLoader(self.decode, self.remote_tars)


class ShardLoader:
    """Loads samples by where they lie; needs no index."""

    def __init__(self, decode: Decode, remote: RemoteTars | None = None) -> None:
        self._decode = decode
        self._remote, self._files = remote, Files()

    def __call__(self, stretch: Stretch) -> Loaded:
        """The sample, decoded. Raises `SourceError` for a shard that is gone or was replaced."""
        ((key, members),) = self._read([stretch])
        loaded = Loaded.decoded(self._decode, members, key, sum(map(len, members.values())))
        if loaded.error is None:
            return loaded
        return msgspec.structs.replace(loaded, label=f"{key} in {stretch.path}")

    def many(self, stretches: Sequence[Stretch]) -> Decoded:
        """The samples, decoded, up to one that cannot be used."""
        samples: list[Mapping[str, Any]] = []
        keys: list[str] = []
        sizes: list[int] = []
        for first in range(0, len(stretches), _TOGETHER):
            for key, members in self._read(stretches[first : first + _TOGETHER]):
                try:
                    sample = self._decode(members)
                except Exception:  # it is met again by itself, and judged there
                    logger.debug("%s cannot be used", key, exc_info=True)
                    return Decoded(samples, keys, sizes)
                if not isinstance(sample, Mapping):
                    return Decoded(samples, keys, sizes)
                samples.append(sample)
                keys.append(key)
                sizes.append(sum(map(len, members.values())))
        return Decoded(samples, keys, sizes)

    def close(self) -> None:
        """Close what is open."""
        self._files.close()

    def _read(self, stretches: Sequence[Stretch]) -> list[tuple[str, dict[str, bytes]]]:
        return self._files.read(stretches) if self._remote is None else list(map(self._remote.read, stretches))


class ShardReader:
    """Reads one share of the samples of all shards."""

    def __init__(
        self, source: ShardSource, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None
    ) -> None:
        self._source, self._share = source, share
        self._files: ShardSource | RemoteTars = source.remote_tars or source
        self._shards: list[TarShard | RemoteTar] = []
        self._ends: list[int] = []
        self._known: set[str] = set()
        self._listings: list[tuple[Listing, int]] = []  # with the number of samples up to its end
        self._decoder = Decoder(source.decode, source.bad_limit, source.fingerprint)
        self._finisher = Finisher(self._decoder, source.deletions)
        self._load = source.loader()
        for listing in _restored(source, state):
            self._take_in(listing.from_epoch, listing.names, strict=True)
            self._check(listing)
        if state is None and not consumed:
            self._grow(0)
        self._order = EpochOrder(share, consumed, self._size_of, source.shuffle, source.epochs)

    def plan(self) -> Planned | None:
        """The next place of the share's order, and where its sample lies."""
        place = self._order.next()
        if place is None:
            return None
        return Planned(self._stretch(place.number), place.span, repeat=place.epoch > 0)

    def finish(self, planned: Planned, loaded: Loaded) -> Item | None:
        """Its item."""
        return self._finisher(planned, loaded)

    def poll(self) -> Item | None:
        """The next sample of the share's order."""
        return next_item(self, self._load)

    def poll_many(self, count: int) -> Run | list[Item]:
        """The next samples, of one epoch."""
        return next_run(self._order, self._stretches, self._load, self._finisher, count)

    def exhausted(self) -> bool:
        """Whether the last epoch was read."""
        return self._order.ended()

    def stats(self) -> SourceStats:
        """Counters; every sample of a later epoch is a repeat."""
        finisher = self._finisher
        return SourceStats(polled=finisher.polled, repeats=finisher.repeats, skipped=self._decoder.skipped)

    def state(self) -> Mapping[str, Any]:
        """The shards by the epoch from which on they are read."""
        built: dict[str, Any] = msgspec.to_builtins(_Saved(tuple(listing for listing, _ in self._listings)))
        return built

    def close(self) -> None:
        """Close the view of the deletions, and files that are open."""
        self._finisher.close()
        self._load.close()

    def _stretches(self, numbers: list[int]) -> list[Stretch]:
        return list(map(self._stretch, numbers))

    def _stretch(self, number: int) -> Stretch:
        at = bisect_right(self._ends, number)
        return self._shards[at].stretch(number - self._ends[at - 1] if at else number)

    def _size_of(self, epoch: int, fresh: bool) -> int:
        if fresh and (self._share.count == 1 or not self._listings):
            self._grow(epoch)
        return next((count for listing, count in reversed(self._listings) if listing.from_epoch <= epoch), 0)

    def _grow(self, epoch: int) -> None:
        """Take in shards that were not there before, to be read from `epoch` on."""
        names = [name for name in self._files.listed() if name not in self._known]
        if names:
            self._take_in(epoch, names, strict=not self._listings)

    def _take_in(self, epoch: int, names: Iterable[str], strict: bool) -> None:
        taken = []
        for name in names:
            try:
                self._shards.append(self._files.shard(name))
            except SourceError as error:
                if strict:
                    raise
                logger.warning("left out until the next epoch: %s", error)
                continue
            taken.append(name)
            self._known.add(name)
        if taken:
            before = self._ends[-1] if self._ends else 0
            self._ends = list(accumulate(len(shard) for shard in self._shards))
            self._listings.append((Listing(epoch, tuple(taken), self._ends[-1] - before), self._ends[-1]))

    def _check(self, saved: Listing) -> None:
        """Positions are places in an order of so many samples: with another number they would mean other samples."""
        if self._listings[-1][0] != saved:
            raise StateError(
                f"{self._source.fingerprint}: {saved.names[0]} to {saved.names[-1]} hold "
                f"{self._listings[-1][0].samples} samples, but the state counted {saved.samples}; restore them, or "
                "begin this source anew (forget)"
            )


def _restored(source: ShardSource, state: Mapping[str, Any] | None) -> tuple[Listing, ...]:
    if state is None:
        return ()
    try:
        return msgspec.convert(state, _Saved).listings
    except msgspec.ValidationError as error:
        raise StateError(f"{source.fingerprint}: its saved list of shards cannot be read: {error}") from None
