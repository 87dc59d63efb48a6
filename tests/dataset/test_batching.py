"""Batches that are asked of each source at once: row by row what asking for each sample by itself gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset import ORIGIN, BatchReader, InteractiveMixture, IntervalSet, Item, Run, Share, SourceStats, Span, Weights
from dataset.mixture import Draws
from tests.dataset.streams import json_copy

NAMES = ("a", "b", "c")


class Waiting:
    """Samples that are there up to a number, which a test raises; read one by one."""

    has_epochs = True

    def __init__(self, name: str) -> None:
        self.name, self.fingerprint, self.there = name, f"waiting:{name}", 0

    def open(
        self, share: Share, consumed: Mapping[str, IntervalSet], state: Mapping[str, Any] | None = None
    ) -> WaitingReader:
        at = consumed.get("0", IntervalSet()).next_after(ORIGIN)
        return self.reader_class(self, at[0] * 1000 + at[1])

    @property
    def reader_class(self) -> type[WaitingReader]:
        return WaitingReader


class WaitingReader:
    """Position n is (n // 1000, n % 1000)."""

    def __init__(self, source: Waiting, at: int) -> None:
        self.source, self.at = source, at

    def poll(self) -> Item | None:
        if self.at >= self.source.there:
            return None
        self.at += 1
        return Item(
            {"n": self.at - 1}, self.key(self.at - 1), Span("0", divmod(self.at - 1, 1000), divmod(self.at, 1000))
        )

    def key(self, number: int) -> str:
        return f"{self.source.name}{number}"

    def exhausted(self) -> bool:
        return False

    def stats(self) -> SourceStats:
        return SourceStats()

    def state(self) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        pass


class ListsReader(WaitingReader):
    """At most `most` at once."""

    most = 5

    def poll_many(self, count: int) -> Run | list[Item]:
        items = (self.poll() for _ in range(min(self.most, count)))
        return [item for item in items if item is not None]


class RunsReader(WaitingReader):
    """In columns."""

    def poll_many(self, count: int) -> Run | list[Item]:
        first, self.at = self.at, min(self.at + count, max(self.at, self.source.there))
        numbers = range(first, self.at)
        ends = [divmod(number + 1, 1000) for number in numbers]
        span = Span("0", divmod(first, 1000), divmod(self.at, 1000))
        return Run(span, ends, [{"n": each} for each in numbers], [self.key(each) for each in numbers])


def waiting(reader: type[WaitingReader], name: str) -> Waiting:
    return type("Sub", (Waiting,), {"reader_class": reader})(name)


def mixture(reader: type[WaitingReader], there: int = 0) -> InteractiveMixture:
    sources = {name: waiting(reader, name) for name in NAMES}
    for source in sources.values():
        source.there = there
    return InteractiveMixture(sources, Weights.first(NAMES, {"a": 4, "b": 2, "c": 1}), seed=5)


def told(data: InteractiveMixture, size: int) -> Any:
    """What a step of one batch read, and its receipt without the number of the stream."""
    got = data.take(size, idle=lambda: False)
    if got is None:
        return None
    items, receipt = got
    data.complete([receipt])
    assert [item.key for item in items] == list(receipt.keys)
    told = json_copy(receipt)
    return [item.sample for item in items], {name: value for name, value in told.items() if name != "stream"}


moves = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from(NAMES), st.integers(1, 12)),
        st.tuples(st.just("take"), st.integers(1, 40)),
        st.tuples(st.just("weigh"), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("limit"), st.sampled_from(NAMES), st.none() | st.just(1)),
        st.tuples(st.just("resume")),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(moves, st.sampled_from([ListsReader, RunsReader]))
def test_asked_at_once_or_one_by_one_it_is_the_same_stream(moves: list[tuple[Any, ...]], reader: Any) -> None:
    assert isinstance(reader(Waiting("a"), 0), BatchReader)
    one_by_one, at_once = mixture(WaitingReader), mixture(reader)
    for move in moves:
        if move[0] == "take":
            assert told(at_once, move[1]) == told(one_by_one, move[1])
            continue
        both = []
        for data in (one_by_one, at_once):
            if move[0] == "arrive":
                data.sources[move[1]].there += move[2]
            elif move[0] == "weigh":
                data.set_weights({"a": 1, "b": 1, move[1]: move[2]})
            elif move[0] == "limit":
                data.set_interactive_parameters({"epochs": {move[1]: move[2]}})
            else:
                again = InteractiveMixture(data.sources, Weights.first(NAMES), seed=5)
                again.load_state_dict(json_copy(data.state_dict()))
                data = again
            both.append(data)
        one_by_one, at_once = both


@pytest.mark.parametrize("reader", [WaitingReader, ListsReader, RunsReader])
def test_every_row_is_of_the_source_that_its_draw_says(reader: Any) -> None:
    """Also where a source has less than a batch wants of it: those draws, and no others, are made again."""
    data, weights, draws = mixture(reader, there=60), Weights.first(NAMES, {"a": 4, "b": 2, "c": 1}), Draws(5, 0)
    data.sources["a"].there = 20
    left = {"a": 20, "b": 60, "c": 60}
    for batch in range(2):
        _, receipt = data.take(48)
        redrawn = {redraw.draw: redraw.dry for redraw in receipt.redraws}
        for draw, name in enumerate(receipt.sources, 48 * batch):
            wanted, dry = draws.pick(weights, draw), []
            while not left[wanted]:
                dry.append(wanted)
                wanted = draws.again(weights, draw, dry)
            assert (name, redrawn.get(draw, ())) == (wanted, tuple(dry))
            left[name] -= 1
        data.complete([receipt])
    assert len(redrawn) > 10
    assert receipt.spans["b"][-1].end == (0, 60 - left["b"])


def test_a_run_in_a_receipt_is_one_stretch_and_across_an_epoch_limit_it_is_cut() -> None:
    data = mixture(RunsReader, there=3000)
    _, receipt = data.take_samples(200)
    assert [len(spans) for spans in receipt.spans.values()] == [1, 1, 1]
    data.complete([receipt])
    data.set_interactive_parameters({"epochs": {"a": 1}, "weights": {"b": 0, "c": 0}})
    read = 0
    while (got := data.take_samples(64)) is not None:
        data.complete([got[1]])
        read += len(got[0])
    assert data.consumed.watermark()["a"]["0"] == (0, 999)
    data.set_interactive_parameters({"epochs": {"a": None}})
    assert data.take(1)[0][0].key == "a999"
