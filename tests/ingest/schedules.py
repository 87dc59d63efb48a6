"""Schedules of archivers that crash, sleep and wake up late, on any store, checked against what the log held."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from ingest.archive_lane import ArchiveLane, ArchiverSettings, Rotation
from ingest.compaction import CompactionSettings, compact
from ingest.log import Append
from ingest.memory import MemoryLog
from ingest.replacing import replace, retire
from ingest.shard_reader import ShardChain, archived_before
from ingest.shards import ShardStore, directory, s3
from ingest.types import SAMPLES, Annotated, Sample


class Killed(BaseException):
    """The process is gone."""


class Fate(threading.local):
    """What becomes of this thread at the moment at which a shard is about to be published."""

    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None


FATE = Fate()


def fated(publish: Callable[..., Any]) -> Callable[..., Any]:
    """`publish`, with what fate has in store before and after it; once."""

    def call(*arguments: Any, **options: Any) -> Any:
        before, FATE.before = FATE.before, None
        after, FATE.after = FATE.after, None
        if before is not None:
            before()
        result = publish(*arguments, **options)
        if after is not None:
            after()
        return result

    return call


@contextmanager
def fate_in_force() -> Iterator[None]:
    """Let it act on every store."""
    with pytest.MonkeyPatch.context() as patched:
        real = directory.os

        class Os:
            link = staticmethod(fated(real.link))
            fsync = staticmethod(lambda descriptor: None)  # the order of calls is tested with the shards

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        patched.setattr(directory, "os", Os())
        patched.setattr(s3.Upload, "send", fated(s3.Upload.send))
        patched.setattr("ingest.archive_lane.FIRST_PAUSE", 0.0)
        yield


def kill() -> None:
    """End here."""
    raise Killed


def break_off() -> None:
    """The store goes away."""
    raise OSError(errno.EIO, "the store went away")


class Sleeper:
    """An archiver that was suspended right before its shard would have been published."""

    def __init__(self, lane: ArchiveLane) -> None:
        self._lane = lane
        self._asleep, self._wake = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        while not self._asleep.wait(0.02) and self._thread.is_alive():
            pass

    def wake(self) -> ArchiveLane:
        """Let it go on, and give it back."""
        self._wake.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        return self._lane

    def _run(self) -> None:
        def sleep() -> None:
            self._asleep.set()
            self._wake.wait(60)

        FATE.before = sleep
        try:
            self._lane.rotate(Rotation.AGE)
        except BaseException as failure:
            self._failure = failure
        FATE.before = None


class World:
    """A log, a store, and archivers of one partition."""

    def __init__(self, store: ShardStore, log: MemoryLog, seed: int) -> None:
        self.random = random.Random(seed)
        self.store, self.log = store, log
        self.writer, self.reader = log.writer("annotator"), log.reader()
        self.chosen = ArchiverSettings(max_count=self.random.choice([3, 1000, 1000]))
        self.put_so_far: list[tuple[int, int]] = []  # offset and seq
        self.lanes: dict[int, ArchiveLane] = {}
        self.sleepers: list[Sleeper] = []
        self.done: list[str] = []

    def run(self, steps: int) -> None:
        """A random schedule, and what must hold at its end."""
        acts = {
            self.put: 8, self.gap: 1, self.advance: 4, self.rotate: 5, self.crash: 1, self.die: 3, self.lose: 2,
            self.sleep: 5, self.wake: 4, self.compact: 2, self.rewrite: 1, self.retire: 2, self.trim: 1,
        }  # fmt: skip
        try:
            for act in self.random.choices([*acts], [*acts.values()], k=steps):
                self.done.append(act.__name__)
                act()
                if self.random.random() < 0.06:
                    self.check()
            while self.sleepers:
                self.wake()
                self.check()
        finally:
            while self.sleepers:
                self.sleepers.pop().wake()
        last = ArchiveLane(self.store, self.reader, SAMPLES, 0, self.chosen)
        for _ in range(20):
            last.advance()
            if last.rotate(Rotation.SHUTDOWN) and last.lag() == (0, 0.0):
                break
        self.check()
        assert self.archived() == self.put_so_far, self.done

    def archived(self) -> list[tuple[int, int]]:
        return [(at.offset, sample.seq) for at, sample in ShardChain(self.store, SAMPLES, 0).samples()]

    def check(self) -> None:
        """The chain is a beginning of what the log held, without gap or overlap, and says where it ends."""
        chain = ShardChain(self.store, SAMPLES, 0)
        end = 0
        for number in range(chain.count() and len(chain)):
            shard = chain.shard(number)
            shard.verify()
            assert shard.summary.first_offset == end, self.done
            end = shard.summary.next_offset
        assert self.archived() == [item for item in self.put_so_far if item[0] < end], self.done
        assert archived_before(self.store, SAMPLES, 0) == end, self.done

    def lane(self) -> tuple[int, ArchiveLane]:
        number = self.random.randrange(2)
        if number not in self.lanes:
            self.lanes[number] = ArchiveLane(self.store, self.reader, SAMPLES, 0, self.chosen)
        return number, self.lanes[number]

    def put(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            seq = len(self.put_so_far)
            made = Annotated("a", (), (Sample("a", seq, 0, 1.0, {"bin": bytes(self.random.randrange(900))}),))
            value = msgspec.msgpack.encode(made)
            (offset,) = self.writer.commit([Append(SAMPLES, 0, "a", value, 1.0)])
            self.put_so_far.append((offset, seq))

    def gap(self) -> None:
        self.log.skip(SAMPLES, 0, self.random.randint(1, 3))

    def advance(self) -> None:
        self.lane()[1].advance()

    def rotate(self) -> None:
        self.lane()[1].rotate(Rotation.AGE)

    def crash(self) -> None:
        self.lanes.pop(self.random.randrange(2), None)

    def die(self) -> None:
        """Killed right before or right after a shard is published."""
        number, lane = self.lane()
        setattr(FATE, self.random.choice(["before", "after"]), kill)
        try:
            lane.advance()
            lane.rotate(Rotation.AGE)
        except Killed:
            del self.lanes[number]
        FATE.before = FATE.after = None

    def lose(self) -> None:
        """The store goes away before or after it took a shard, and the archiver does not know which."""
        setattr(FATE, self.random.choice(["before", "after"]), break_off)
        self.lane()[1].rotate(Rotation.AGE)
        FATE.before = FATE.after = None

    def sleep(self) -> None:
        number, lane = self.lane()
        if len(self.sleepers) < 3:
            lane.advance()
            self.sleepers.append(Sleeper(lane))
            del self.lanes[number]

    def wake(self) -> None:
        if self.sleepers:
            sleeper = self.sleepers.pop(self.random.randrange(len(self.sleepers)))
            self.lanes[self.random.randrange(2)] = sleeper.wake()

    def compact(self) -> None:
        settings = CompactionSettings(target_bytes=20_000, min_shards=self.random.randint(2, 4))
        compact(self.store, SAMPLES, 0, settings)

    def rewrite(self) -> None:
        chain = ShardChain(self.store, SAMPLES, 0)
        if chain.count():
            replace(self.store, [chain.shard(self.random.randrange(len(chain)))])

    def retire(self) -> None:
        retire(self.store, SAMPLES, 0, pause=0.0)

    def trim(self) -> None:
        self.writer.trim(SAMPLES, 0, archived_before(self.store, SAMPLES, 0))
