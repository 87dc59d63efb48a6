"""The keeper: whenever it dies it goes on, misses nothing, and what others bring back it takes out again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingest.archive_lane import ArchiverSettings
from ingest.certificates import Certificate, Erasure, State, certificate_of
from ingest.entries import Entry
from ingest.keeper import Keeper, Work
from ingest.log import Append, LogWriter
from ingest.pipeline import PipelineSettings
from ingest.sessions import Opening, SessionIndex, SessionRules
from ingest.shard_reader import Shard, ShardChain
from ingest.shard_writer import ShardWriter
from ingest.shards import DirectoryStore, StagedShard, generation_of
from ingest.sqlite import Layout, SqliteLog
from ingest.tombstones import Tombstones
from ingest.types import CERTIFICATES, SAMPLES, STEPS, SessionDeleted
from tests.ingest.conftest import Run
from tests.ingest.keeping import AT_ONCE, SMALL, archived_all, keep, names, process, sessions_in
from tests.ingest.visits import append, interleaved, read, step, visit
from tests.waiting import until

GONE = ("gone-1", "gone-2")
STAY = ("stay-1", "stay-2", "stay-3")


def filled(
    folder: Path, seed: int = 1, partitions: int = 1, settings: ArchiverSettings = SMALL
) -> tuple[SqliteLog, DirectoryStore]:
    """A log with five sessions of which one is open, annotated and archived in small shards."""
    chance = random.Random(seed)
    log, store = SqliteLog(folder / "log", Layout(partitions)), DirectoryStore(folder / "shards")
    visits = [visit(name, [step(name, seq, 1 + seq % 2) for seq in range(9)], ends=name != "gone-2") for name in GONE]
    visits += [visit(name, [step(name, seq, 1) for seq in range(6)]) for name in STAY]
    writer = log.writer("gateway")
    for record in interleaved(visits, chance):
        writer.commit([append(record, partitions)])
    writer.close()
    process(log, store, settings)
    return log, store


def delete(log: SqliteLog, *session_ids: str) -> None:
    """Delete sessions as the gateway does."""
    writer = log.writer("gateway")
    index = SessionIndex(SessionRules(log.layout.partitions), tombstones=Tombstones(writer.state))
    draft = index.draft()
    for session_id in session_ids:
        draft.delete(session_id)
    writer.commit(draft.appends, draft.state())
    writer.close()


def certificate(log: SqliteLog, session_id: str) -> Certificate:
    return certificate_of(log, f"session.{session_id}", 0.0, 0.0, [session_id])


def rows(store: DirectoryStore, partitions: int = 1) -> dict[tuple[str, int, int, int], Entry]:
    """Every row of the archive by its place, those that were removed too."""
    found = {}
    for topic in (STEPS, SAMPLES):
        for number in range(partitions):
            chain = ShardChain(store, topic, number)
            for at in range(chain.count()):
                entry = chain.entry(at)
                found[topic, number, entry.offset, entry.index] = entry
    return found


def test_all_other_entries_keep_their_places_and_their_bytes(tmp_path: Path) -> None:
    log, store = filled(tmp_path)
    before = rows(store)
    count = {topic: ShardChain(store, topic, 0).count() for topic in (STEPS, SAMPLES)}
    delete(log, *GONE)
    keep(log, store)
    process(log, store)
    keep(log, store)
    after = rows(store)
    for place, entry in before.items():
        if any(name in entry.key for name in GONE):
            assert after[place].removed
        else:
            assert after[place] == entry
    chain = ShardChain(store, SAMPLES, 0)
    assert [chain.entry(number).key for number in range(count[SAMPLES]) if not chain.entry(number).removed] == [
        entry.key for (topic, *_), entry in before.items() if topic == SAMPLES and "gone" not in entry.key
    ]


class Killed(BaseException):
    """The process is gone."""


class Life:
    """Dies at a change that others can see: before it, or right after it."""

    def __init__(self, changes: int = 1 << 30, after: bool = False) -> None:
        self.left, self.after, self.made = changes, after, 0

    def change(self, act: Callable[[], Any]) -> Any:
        self.made += 1
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Killed
        done = act()
        if self.left < 0:
            raise Killed
        return done


class MortalStore(DirectoryStore):
    def __init__(self, root: Path, life: Life) -> None:
        super().__init__(root)
        self.life = life

    def create_if_absent(self, name: str, staged: StagedShard) -> bool:
        return bool(self.life.change(lambda: super(MortalStore, self).create_if_absent(name, staged)))

    def remove(self, name: str) -> None:
        self.life.change(lambda: super(MortalStore, self).remove(name))


class MortalWriter:
    def __init__(self, writer: LogWriter, life: Life) -> None:
        self._writer, self._life = writer, life

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def commit(self, appends: Sequence[Append], state: Mapping[str, bytes | None] | None = None) -> list[int]:
        offsets: list[int] = self._life.change(lambda: self._writer.commit(appends, state))
        return offsets


def live(log: SqliteLog, store: DirectoryStore, life: Life, turns: int = 6) -> None:
    """A keeper that dies as its life has it."""
    writer, reader = log.writer("keeper"), log.reader()
    try:
        work = Work(log, MortalWriter(writer, life), reader, MortalStore(store.root, life), AT_ONCE)  # type: ignore[arg-type]
        with suppress(Killed):
            for _ in range(turns):
                work.turn()
                time.sleep(0.001)  # what was replaced has to be older than the linger, be it 0
    finally:
        writer.close()
        reader.close()


def check_erased(log: SqliteLog, store: DirectoryStore, before: Mapping[Any, Entry]) -> None:
    assert sessions_in(store, STEPS, 1) | sessions_in(store, SAMPLES, 1) == set(STAY)
    assert {place: entry.key for place, entry in rows(store).items() if "stay" in entry.key} == {
        place: entry.key for place, entry in before.items() if "stay" in entry.key
    }
    chains = [name for topic in (STEPS, SAMPLES) for name in ShardChain(store, topic, 0).names]
    assert sorted(names(store, (STEPS, SAMPLES), 1)) == sorted(chains), "nothing is left off the chains"
    for session_id in GONE:
        (erasure,) = certificate(log, session_id).erasures
        assert erasure.state is State.ERASED
        mine = [entry for (topic, *_), entry in before.items() if session_id in entry.key and topic == STEPS]
        assert erasure.steps == len(mine)
        assert erasure.samples == sum(session_id in e.key for (topic, *_), e in before.items() if topic == SAMPLES)
        assert len({each.before for each in erasure.shards}) == len(erasure.shards)
        assert all(each.after and each.after_sha256 and each.removed_at for each in erasure.shards)


@pytest.mark.parametrize("after", [False, True], ids=["before a change", "after a change"])
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_wherever_it_is_killed_it_goes_on_and_its_certificate_misses_nothing(
    tmp_path: Path, after: bool, every: int
) -> None:
    log, store = filled(tmp_path / "first", settings=SMALL.model_copy(update={"max_count": 25}))
    before = rows(store)
    delete(log, *GONE)
    process(log, store)
    whole = Life()
    shutil.copytree(tmp_path / "first", tmp_path / "whole")
    live(SqliteLog(tmp_path / "whole" / "log", log.layout), DirectoryStore(tmp_path / "whole" / "shards"), whole)
    check_erased(
        SqliteLog(tmp_path / "whole" / "log", log.layout), DirectoryStore(tmp_path / "whole" / "shards"), before
    )
    assert whole.made > 20, "there is something to be killed in"
    for changes in range(int(after), whole.made, every):
        with tempfile.TemporaryDirectory(dir=tmp_path) as name:
            folder = Path(name) / "copy"
            shutil.copytree(tmp_path / "first", folder)
            mortal_log, mortal_store = SqliteLog(folder / "log", log.layout), DirectoryStore(folder / "shards")
            live(mortal_log, mortal_store, Life(changes, after))
            for topic in (STEPS, SAMPLES):  # what is on the chain is whole, whenever it dies
                list(ShardChain(mortal_store, topic, 0).entries())
            live(mortal_log, mortal_store, Life())
            check_erased(mortal_log, mortal_store, before)


def test_a_compaction_that_was_asleep_cannot_bring_it_back(tmp_path: Path) -> None:
    log, store = filled(tmp_path)
    chain = ShardChain(store, SAMPLES, 0)
    asleep = [chain.shard(0), chain.shard(1)]
    old = {shard.name: (store.root / shard.name).read_bytes() for shard in asleep}
    delete(log, "gone-1")
    process(log, store)
    with Keeper(log, store, AT_ONCE).working() as work:
        for _ in range(6):
            work.turn()
            time.sleep(0.001)
        assert not work.pending
        for name, data in old.items():  # the files as it had read them come back, and a merged one over them
            (store.root / name).write_bytes(data)
        lifted = [Shard(store, name) for name in ShardChain(store, SAMPLES, 0).names[:2]]
        stale = [Shard(store, name) for name in old]
        made = replace_as_if_current(store, stale, lifted)
        assert any("gone-1" in entry.key for entry in made.entries()), "it did bring it back"
        work._audits = dict.fromkeys(work._audits, 0.0)  # it is due
        for _ in range(3):
            work.turn()
            time.sleep(0.001)
    assert "gone-1" not in sessions_in(store, SAMPLES, 1)
    assert sorted(names(store, (SAMPLES,), 1)) == sorted(ShardChain(store, SAMPLES, 0).names)


def replace_as_if_current(store: DirectoryStore, stale: Sequence[Shard], lifted: Sequence[Shard]) -> Shard:
    """What a writer without any check would do: publish old entries under the next generation's name."""
    first = stale[0].summary
    writer = ShardWriter(store, SAMPLES, 0, first.first_offset, generation=generation_of(lifted[0].name) + 1)
    for shard in stale:
        for entry in shard.entries():
            writer.add(entry)
    writer.cover(stale[-1].summary.next_offset, first.oldest_time, stale[-1].summary.newest_time)
    assert writer.publish()
    return Shard(store, writer.name)


def test_a_damaged_shard_is_named_and_holds_up_nothing_but_its_own_deletion(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, store = filled(tmp_path)
    delete(log, *GONE)
    process(log, store)
    chain = ShardChain(store, SAMPLES, 0)
    damaged = next(name for name in chain.names if any("gone-1" in entry.key for entry in Shard(store, name).entries()))
    path = store.root / damaged
    data = bytearray(path.read_bytes())
    data[2500] ^= 1
    path.write_bytes(data)
    work = keep(log, store)
    assert damaged in caplog.text
    assert work.pending, "what cannot be read cannot be said to be erased"
    assert "gone-1" not in sessions_in(store, STEPS, 1)
    data[2500] ^= 1
    path.write_bytes(data)
    keep(log, store)
    assert certificate(log, "gone-1").state is State.ERASED


def test_old_shards_are_emptied_and_keep_their_places(tmp_path: Path) -> None:
    log, store = filled(tmp_path)
    ages = AT_ONCE.model_copy(update={"archive_max_age": 3600.0})
    before = rows(store)
    keep(log, store, ages)
    assert sessions_in(store, SAMPLES, 1) == {*GONE, *STAY}, "they are young"
    keep(log, store, AT_ONCE.model_copy(update={"archive_max_age": 0.001}))
    assert sessions_in(store, SAMPLES, 1) == sessions_in(store, STEPS, 1) == set()
    after = rows(store)
    assert after.keys() == before.keys()
    assert all(entry.removed for entry in after.values())
    size = sum((store.root / name).stat().st_size for name in names(store, (STEPS, SAMPLES), 1))
    count = len(names(store, (STEPS, SAMPLES), 1))
    keep(log, store, AT_ONCE.model_copy(update={"archive_max_age": 0.001}))
    assert len(names(store, (STEPS, SAMPLES), 1)) == count
    assert size < 5_000 * count
    with closing(log.reader()) as reader:
        assert archived_all(reader, store)


def test_certificates_are_records_of_the_log_too(tmp_path: Path) -> None:
    log, store = filled(tmp_path)
    delete(log, "gone-1")
    process(log, store)
    keep(log, store)
    (record,) = read(log.reader(), CERTIFICATES, 0)
    erasure = msgspec.msgpack.decode(record.value, type=Erasure)
    assert (erasure,) == certificate(log, "gone-1").erasures
    tombstone = next(read(log.reader(), "deletions", 0))
    assert msgspec.msgpack.decode(tombstone.value, type=SessionDeleted).session_id == "gone-1"
    assert (erasure.tombstone.topic, erasure.tombstone.offset) == ("deletions", tombstone.offset)


def test_killed_for_real_the_pipeline_s_keeper_goes_on(tmp_path: Path, run_program: Run) -> None:
    log, store = filled(tmp_path)
    chance = random.Random(7)
    settings = PipelineSettings.model_validate(
        {
            "annotator": {"plugin": "tests.ingest.visits:Telling"},
            "archiver": {"max_count": 7, "max_age": 0.2},
            "keeping": {"interval": 0.01, "linger": 0.05, "grace": 0.0},
            "metrics_port": 0,
        }
    )
    pipeline = run_program("run_pipeline", (settings, log, store))
    assert pipeline.stdout is not None
    pipeline.stdout.readline()
    delete(log, *GONE)
    for _ in range(3):
        time.sleep(chance.uniform(0.01, 0.25))  # at some moment of its work
        os.kill(pipeline.pid, signal.SIGKILL)
        pipeline.wait()
        pipeline = run_program("run_pipeline", (settings, log, store))
        assert pipeline.stdout is not None
        pipeline.stdout.readline()
    until(lambda: all(certificate(log, name).state is State.ERASED for name in GONE), "it is erased")
    pipeline.terminate()
    assert pipeline.wait() == 0
    assert sessions_in(store, STEPS, 1) | sessions_in(store, SAMPLES, 1) == set(STAY)


def test_a_session_s_opening_by_a_subject_is_in_the_state_until_it_is_deleted(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    writer = log.writer("gateway")
    index = SessionIndex(SessionRules(4), tombstones=Tombstones(writer.state))
    draft = index.draft()
    draft.open(Opening("desktop", session_id="session-1", subject="p"))
    draft.delete("session-1")
    assert [key for key, value in draft.state().items() if value is not None] == ["deleted/session-1"]
    draft = index.draft()
    draft.open(Opening("desktop", session_id="session-2", subject="p"))
    assert draft.delete_subject("p").sessions == ("session-2",), "in one commit too"
    writer.commit(draft.appends, draft.state())
    index.adopt(draft)
    assert sorted(writer.state()) == ["blocked/p", "deleted/session-2"]
    writer.close()
