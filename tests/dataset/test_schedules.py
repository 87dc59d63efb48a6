"""Random schedules of arrivals, steps, changes, crashes, retention and ranks: nothing is lost, nothing repeated."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch.utils.data import IterableDataset, get_worker_info

from dataset import (
    HistorySource,
    InteractiveMixture,
    IterableSource,
    LiveSource,
    MapSource,
    make_interactive_dataset,
    merge_states,
)
from dataset.lane import Lane
from dataset.order import Taken
from ingest.shards import DirectoryStore
from tests.dataset.streams import MemoryLog, archive_of, decode, json_copy, key, with_inline_workers
from tests.dataset.test_mixture import within_binomial_bound

PARTITIONS = 3
BASE = [{"key": f"base/{number:06d}-00"} for number in range(37)]


class Passes(IterableDataset[dict[str, str]]):
    """Elements that name their pass; each has another order, and another number of them. It splits itself."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @staticmethod
    def all_of(epoch: int) -> list[str]:
        return [f"{epoch}/{number}" for number in range(11 + epoch % 3)]

    def __iter__(self) -> Iterator[dict[str, str]]:
        keys = self.all_of(self.epoch)
        random.Random(self.epoch).shuffle(keys)
        info = get_worker_info()
        for each in keys if info is None else keys[info.id :: info.num_workers]:
            yield {"__key__": each, "key": each}


class Branch(RuleBasedStateMachine):
    """A training run that is killed and restored at will, on any ranks and workers, beside a model of what it trained."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.archive = DirectoryStore(self.folder.name)
        self.log = MemoryLog(PARTITIONS)
        self.numbers = count()
        self.appended: list[str] = []
        self.trained: list[tuple[str, str]] = []  # source and key, along the branch
        self.saved: tuple[dict | None, int, int] = (None, 0, 0)  # state, length of the branch, weights version
        self.ranks: list[InteractiveMixture] = []
        self.version = 0
        self.started_over = 0

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            for data in self.ranks:
                data.close()
            self.folder.cleanup()

    def start(self, world: int, state: dict | None, workers: int = 0) -> None:
        for data in self.ranks:
            data.close()
        self.ranks = []
        for rank in range(world):
            sources = {
                "base": MapSource(BASE),
                "live": LiveSource(self.log, decode=decode, archive=self.archive, batch_bytes=400),
                "history": HistorySource(self.archive, decode=decode),
                "stream": IterableSource(Passes()),
                "parts": IterableSource(Passes(), parts=3),
            }
            weights = {"base": 1, "live": 2, "history": 1, "stream": 1, "parts": 1}
            data = make_interactive_dataset(sources, weights, seed=1)
            with_inline_workers(data, workers)
            if state is not None:
                data.load_state_dict(state)
            data.set_layout(rank, world)
            self.ranks.append(data)

    @initialize(world=st.integers(1, 4), workers=st.integers(0, 3))
    def begin(self, world: int, workers: int) -> None:
        self.start(world, None, workers)

    @rule(partition=st.integers(0, PARTITIONS - 1), sizes=st.lists(st.integers(0, 3), min_size=1, max_size=4))
    def samples_arrive(self, partition: int, sizes: list[int]) -> None:
        for size in sizes:
            keys = [key(next(self.numbers)) for _ in range(size)]
            self.log.append(partition, keys, float(len(self.appended)))
            self.appended += keys

    @rule(partition=st.integers(0, PARTITIONS - 1), width=st.integers(1, 5))
    def a_transaction_is_aborted(self, partition: int, width: int) -> None:
        self.log.leave_gap(partition, width)

    @rule(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3))
    def a_step_is_completed(self, sizes: list[int]) -> None:
        """Each size is one batch of an accumulation, on every rank."""
        for data in self.ranks:
            receipts = []
            for size in sizes:
                items, receipt = data.take(size)
                assert len(items) == size
                assert receipt.version == self.version
                assert all(data.weights.by_source[name] > 0 for name in receipt.sources)
                receipts.append(receipt)
            data.complete(receipts)
            for receipt in receipts:
                self.trained += zip(receipt.sources, receipt.keys, strict=True)

    @rule(size=st.integers(1, 6))
    def a_batch_is_fetched_and_never_trained(self, size: int) -> None:
        for data in self.ranks:
            data.take(size)
            data.rewind()

    @rule(
        base=st.integers(1, 3),
        live=st.integers(0, 5),
        history=st.integers(0, 3),
        stream=st.integers(0, 4),
        parts=st.integers(0, 4),
    )
    def weights_change(self, **weights: int) -> None:
        self.version += 1
        for data in self.ranks:
            data.set_weights(weights, at_version=self.version)

    @rule(seconds=st.sampled_from([None, 3.0, 1e6]))
    def recency_changes(self, seconds: float | None) -> None:
        self.version += 1
        for data in self.ranks:
            data.set_interactive_parameters({"half_life_seconds": {"history": seconds}}, at_version=self.version)

    @rule()
    def a_checkpoint_is_saved(self) -> None:
        state = json_copy(merge_states([data.state_dict() for data in self.ranks]))
        self.saved = (state, len(self.trained), self.version)

    @rule(world=st.integers(1, 4), workers=st.integers(0, 3))
    def training_crashes_and_resumes(self, world: int, workers: int) -> None:
        """What was trained after the last checkpoint is undone."""
        state, length, self.version = self.saved
        del self.trained[length:]
        self.start(world, state, workers)

    @rule(per_shard=st.integers(1, 4))
    def samples_are_archived(self, per_shard: int) -> None:
        archive_of(self.log, Path(self.folder.name), per_shard)

    @rule(partition=st.integers(0, PARTITIONS - 1), per_shard=st.integers(1, 4))
    @precondition(lambda self: any(self.log.records))
    def retention_drops_what_is_archived(self, partition: int, per_shard: int) -> None:
        archive_of(self.log, Path(self.folder.name), per_shard)
        if self.log.records[partition]:
            middle = self.log.records[partition][len(self.log.records[partition]) // 2].offset
            self.log.trim(partition, middle + 1)

    @invariant()
    def no_live_sample_is_trained_twice(self) -> None:
        counts = Counter(each for source, each in self.trained if source == "live")
        assert all(number == 1 for number in counts.values())

    @invariant()
    def no_element_of_a_pass_is_trained_twice(self) -> None:
        for name in ("stream", "parts"):
            counts = Counter(each for source, each in self.trained if source == name)
            assert all(number == 1 for number in counts.values())

    @invariant()
    def history_follows_live(self) -> None:
        seen: set[str] = set()
        for source, each in self.trained:
            assert source != "history" or each in seen
            if source == "live":
                seen.add(each)

    def drain(self) -> None:
        """In the end every sample that arrived has been trained through live, once."""
        for data in self.ranks:
            data.set_weights({"base": 0, "history": 0, "stream": 0, "parts": 0, "live": 1})
            while (taken := data.take(1, idle=patience(3))) is not None:
                items, receipt = taken
                data.complete([receipt])
                self.trained.append(("live", items[0].key))
        live = sorted(each for source, each in self.trained if source == "live")
        assert live == sorted(self.appended)
        for name in ("stream", "parts"):
            self.go_through(name)

    def go_through(self, name: str) -> None:
        """Every pass that was begun is whole in the end: each of its elements was trained once."""
        begun = max((int(each.split("/")[0]) for source, each in self.trained if source == name), default=0)
        for data in self.ranks:
            data.set_weights({"live": 0, "stream": 0, "parts": 0, name: 1})
            while True:
                items, receipt = data.take(1)
                data.complete([receipt])
                self.trained.append((name, items[0].key))
                if int(items[0].key.split("/")[0]) > begun:
                    break
        whole = [each for source, each in self.trained if source == name and int(each.split("/")[0]) <= begun]
        assert sorted(whole) == sorted(each for epoch in range(begun + 1) for each in Passes.all_of(epoch))


def patience(looks: int) -> Callable[[], bool]:
    """An idle hook that gives up after some looks for news."""
    left = iter(range(looks))
    return lambda: next(left, None) is not None


@pytest.mark.parametrize(
    "schedules", [25, pytest.param(2000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])], ids=str
)
def test_nothing_is_lost_or_repeated_whatever_happens(schedules: int) -> None:
    at_random = settings(
        max_examples=schedules, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(Branch, settings=at_random)


@pytest.mark.parametrize("world", [1, 3])
def test_between_any_two_changes_the_share_is_within_the_binomial_bound(world: int) -> None:
    log = MemoryLog(PARTITIONS)
    for number in range(4500):
        log.append(number % PARTITIONS, [key(number)], float(number))
    ranks = []
    for rank in range(world):
        sources = {"base": MapSource(BASE), "live": LiveSource(log, decode=decode)}
        data = make_interactive_dataset(sources, {"base": 1, "live": 1}, seed=9)
        data.set_layout(rank, world)
        ranks.append(data)
    for share in (0.5, 0.1, 0.9, 0.0, 0.35):
        counts: Counter[str] = Counter()
        for data in ranks:
            data.set_weights({"live": share, "base": 1 - share})
            for _ in range(30 // world):
                _, receipt = data.take(32)
                data.complete([receipt])
                counts.update(receipt.sources)
        assert within_binomial_bound(counts["live"], counts.total(), share)


def test_the_check_would_notice_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that forgets one sample makes the schedules above fail: they can."""
    pop = Lane.pop

    def forgetful(self: Lane):
        waiting = pop(self)
        return pop(self) if self.oldest is not None and waiting.key.endswith("3-00") else waiting

    monkeypatch.setattr(Lane, "pop", forgetful)
    branch = Branch()
    branch.begin(1, 0)
    branch.samples_arrive(0, [3, 3, 3])
    with pytest.raises(AssertionError):
        branch.teardown()


def test_the_check_would_notice_an_element_of_an_iterable_that_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that forget what those of another number have read make the schedules fail, too."""
    monkeypatch.setattr(Taken, "holds", lambda self, epoch, place: False)
    branch = Branch()
    try:
        branch.begin(1, 0)
        for _ in range(3):
            branch.a_step_is_completed([6, 6])
        branch.a_checkpoint_is_saved()
        branch.training_crashes_and_resumes(2, 2)
        with pytest.raises(AssertionError):
            branch.teardown()
    finally:
        branch.folder.cleanup()


steps = st.tuples(st.integers(1, 7), st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 3)))


@settings(max_examples=12, deadline=None)
@given(
    st.lists(steps, min_size=2, max_size=25),
    st.lists(st.tuples(st.integers(0, 24), st.integers(0, 3)), min_size=1, max_size=3),
    st.integers(1, 2),
)
def test_a_run_that_is_restored_again_and_again_equals_one_that_never_was(
    schedule: list[tuple[int, tuple[int, int, int] | None]], cuts: list[tuple[int, int]], world: int
) -> None:
    log = MemoryLog(PARTITIONS)
    for number in range(120):
        log.append(number % PARTITIONS, [key(number)], float(number))
    with tempfile.TemporaryDirectory() as folder:
        archive = archive_of(log, Path(folder), per_shard=20)

        def ranks(state: dict | None, workers: int = 0) -> list[InteractiveMixture]:
            made = []
            for rank in range(world):
                live = LiveSource(log, decode=decode, max_lag=30)
                sources = {
                    "base": MapSource(BASE),
                    "live": live,
                    "history": HistorySource(archive, decode=decode),
                    "stream": IterableSource(Passes(), parts=2),
                }
                data = with_inline_workers(make_interactive_dataset(sources, seed=5), workers)
                if state is not None:
                    data.load_state_dict(state)
                data.set_layout(rank, world)
                made.append(data)
            return made

        def run(cuts: dict[int, int]) -> list[tuple[str, ...]]:
            rows, running = [], ranks(None)
            for number, (size, weights) in enumerate(schedule):
                for data in running:
                    if weights is not None:
                        data.set_weights(dict(zip(("live", "history", "base"), weights, strict=True)))
                    _, receipt = data.take(size)
                    data.complete([receipt])
                    rows.append(receipt.keys)
                if number in cuts:
                    running = ranks(json_copy(merge_states([data.state_dict() for data in running])), cuts[number])
            return rows

        assert run(dict(cuts)) == run({})
