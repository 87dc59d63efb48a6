"""Reannotation: every archived step gets its new samples once, wherever it is killed and whatever comes later."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
import webdataset

from dataset import ShardSource
from ingest.annotator import Members
from ingest.errors import ShardError
from ingest.reannotated import generation, generations
from ingest.reannotating import Limits, reannotate
from ingest.shard_reader import ShardChain
from ingest.shards import DirectoryStore, ShardStore, StagedShard
from ingest.sqlite import Layout, SqliteLog
from ingest.types import SAMPLES, STEPS, SessionRecord, Step
from tests.dataset.streams import Reading
from tests.ingest.keeping import archive, keep, process, sessions_in
from tests.ingest.stores import SERVICES, make_store
from tests.ingest.test_keeper import delete
from tests.ingest.visits import Telling, append, expected, interleaved, random_visit

SMALL = Limits(max_count=5)


def filled(folder: Path, seed: int, sessions: int = 8) -> tuple[SqliteLog, DirectoryStore, list[SessionRecord]]:
    """Sessions with resets and poison, some open, in small shards."""
    log, store = SqliteLog(folder / "log", Layout(1)), DirectoryStore(folder / "shards")
    return log, store, fill(log, store, seed, sessions)


def fill(log: SqliteLog, store: ShardStore, seed: int, sessions: int) -> list[SessionRecord]:
    chance = random.Random(seed)
    visits = [random_visit(f"visit-{number}", chance, ends=number % 4 != 0) for number in range(sessions)]
    records = list(interleaved(visits, chance))
    put(log, records)
    process(log, store)
    return records


def put(log: SqliteLog, records: Iterable[SessionRecord]) -> None:
    writer = log.writer("gateway")
    for record in records:
        writer.commit([append(record, 1)])
    writer.close()


def made(target: ShardStore) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for _, sample in ShardChain(target, SAMPLES, 0).samples():
        assert sample.key not in found
        found[sample.key] = next(iter(sample.members.values()))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_same_annotator_makes_the_same_samples(tmp_path: Path, seed: int) -> None:
    _, store, records = filled(tmp_path, seed)
    target = generation(store, "v2")
    assert isinstance(target, DirectoryStore)
    letters = []
    done = reannotate(store, target, 0, Telling, limits=SMALL, tell=letters.append)
    outcomes, contents = expected(records)
    assert made(target) == contents
    assert len(letters) == done.dead == sum(each.dead for listed in outcomes.values() for each in listed)
    assert done.steps == sum(map(len, outcomes.values()))
    assert ShardChain(target, SAMPLES, 0).next_offset == ShardChain(store, STEPS, 0).next_offset
    again = reannotate(store, target, 0, Telling, limits=SMALL)
    assert (again.shards, again.samples) == (0, 0)
    assert list(generations(store)) == ["v2"]


def apps(members: Members) -> dict[str, str]:
    return {"key": json.loads(next(iter(members.values())))["app"]}


class Killed(BaseException):
    """The process is gone."""


class MortalStore(DirectoryStore):
    def __init__(self, root: Path, shards: int, after: bool) -> None:
        super().__init__(root)
        self.left, self.after = shards, after

    def create_if_absent(self, name: str, staged: StagedShard) -> bool:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Killed
        created = super().create_if_absent(name, staged)
        if self.left < 0:
            raise Killed
        return created


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_shard_it_goes_on_with_what_comes_next(tmp_path: Path, after: bool) -> None:
    _, store, records = filled(tmp_path, seed=11)
    whole = DirectoryStore(tmp_path / "whole")
    shards = reannotate(store, whole, 0, Telling, limits=SMALL).shards
    assert shards > 4
    for lived in range(shards):
        target = DirectoryStore(tmp_path / f"killed-{lived}")
        with pytest.raises(Killed):
            reannotate(store, MortalStore(target.root, lived, after), 0, Telling, limits=SMALL)
        reannotate(store, target, 0, Telling, limits=SMALL)
        assert made(target) == made(whole) == expected(records)[1]


def test_what_is_archived_later_comes_with_the_next_run(tmp_path: Path) -> None:
    chance = random.Random(3)
    visits = [random_visit(f"visit-{number}", chance) for number in range(6)]
    records = list(interleaved(visits, chance))
    log, store = SqliteLog(tmp_path / "log", Layout(1)), DirectoryStore(tmp_path / "shards")
    target = DirectoryStore(tmp_path / "target")
    for start in range(0, len(records), 7):
        put(log, records[start : start + 7])
        archive(log, store)
        reannotate(store, target, 0, Telling, limits=SMALL)
    assert made(target) == expected(records)[1]


def test_another_run_into_the_same_archive_is_refused(tmp_path: Path) -> None:
    _, store, _ = filled(tmp_path, seed=5)
    target = DirectoryStore(tmp_path / "target")

    class Interrupted(Telling):
        def on_step(self, step: Step) -> Iterable[Members]:
            if not ShardChain(target, SAMPLES, 0):
                reannotate(store, target, 0, Telling, limits=SMALL)
            return super().on_step(step)

    with pytest.raises(ShardError, match="another run reannotates into this archive"):
        reannotate(store, target, 0, Interrupted, limits=SMALL)


def test_the_new_samples_are_read_by_webdataset_and_as_base_shards(tmp_path: Path) -> None:
    _, store, records = filled(tmp_path, seed=7)
    target = generation(store, "v2")
    assert isinstance(target, DirectoryStore)
    reannotate(store, target, 0, Telling, limits=SMALL)
    paths = [str(target.root / name) for name in ShardChain(target, SAMPLES, 0).names]
    keys = {sample["__key__"] for sample in webdataset.WebDataset(paths, shardshuffle=False)}
    assert keys == set(expected(records)[1])
    source = ShardSource(
        target.root, decode=lambda members: {"key": json.loads(next(iter(members.values())))["app"]}, epochs=1
    )
    assert len(Reading(source).read(1000)) == len(keys)


def test_deleted_sessions_are_left_out_and_taken_out_of_what_was_made_before(tmp_path: Path) -> None:
    log, store, records = filled(tmp_path, seed=9)
    target = generation(store, "v2")
    assert isinstance(target, DirectoryStore)
    reannotate(store, target, 0, Telling, limits=SMALL)
    gone = sorted(sessions_in(target, SAMPLES, 1))[0]
    delete(log, gone)
    process(log, store)
    keep(log, store)
    assert gone not in sessions_in(target, SAMPLES, 1) | sessions_in(store, STEPS, 1)
    fresh = generation(store, "v3")
    assert isinstance(fresh, DirectoryStore)
    reannotate(store, fresh, 0, Telling, limits=SMALL)
    assert made(fresh) == {key: value for key, value in expected(records)[1].items() if not key.startswith(f"{gone}/")}
    with pytest.raises(ShardError, match="small letters"):
        generation(store, "../v4")


@pytest.mark.parametrize("kind", SERVICES)
def test_an_archive_in_s3_is_reannotated_and_a_deletion_reaches_what_was_made(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    log = SqliteLog(tmp_path / "log", Layout(1))
    store = make_store(kind, request, tmp_path, log)
    records = fill(log, store, seed=9, sessions=3)
    target = generation(store, "v2").for_writing(log)
    done = reannotate(store, target, 0, Telling, limits=SMALL)
    assert made(target) == expected(records)[1]
    assert reannotate(store, generation(store, "v2"), 0, Telling, limits=SMALL).shards == 0, "it goes on where it ended"
    assert done.shards > 1
    assert list(generations(store)) == ["v2"]
    gone = min(sessions_in(target, SAMPLES, 1))
    delete(log, gone)
    process(log, store)
    keep(log, store)
    assert gone not in sessions_in(target, SAMPLES, 1) | sessions_in(store, STEPS, 1) | sessions_in(store, SAMPLES, 1)
    assert made(target) == {key: value for key, value in expected(records)[1].items() if not key.startswith(f"{gone}/")}
