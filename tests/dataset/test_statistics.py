"""What the mixture came to, as numbers and as an event."""

from __future__ import annotations

import json
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from control.protocol import Event, EventType
from dataset import LiveSource, make_interactive_dataset
from dataset.mixture import Weights
from dataset.receipt import Receipt, Redraw
from dataset.source import SourceStats
from dataset.statistics import WINDOW, Tally
from tests.dataset.streams import MemoryLog, decode, key, step

WEIGHTS = Weights(3, {"base": 1, "live": 3})


def receipt(base: int, live: int, dry: int = 0, received: float | None = None) -> Receipt:
    sources = ("base",) * base + ("live",) * live
    return Receipt(
        rank=0,
        world=1,
        stream=1,
        version=3,
        first_draw=0,
        sources=sources,
        own_keys={"base": ("base",) * base, "live": ("live",) * live},
        times=(None,) * base + (received,) * live,
        spans={},
        sizes={"base": 100 * base, "live": 10 * live},
        redraws=tuple(Redraw(draw, ("live",)) for draw in range(dry)),
    )


def test_shares_rates_ages_and_shortfall_are_those_of_the_window() -> None:
    tally = Tally(["base", "live"])
    for second in range(5):
        tally.book(receipt(6, 2, dry=1, received=1000.0 + second - 7), now=1000.0 + second)
    found = tally.statistics(WEIGHTS, {"live": SourceStats(lag=4, jumped=2)}, now=1004.0)
    assert (found.version, found.samples, found.total, found.seconds) == (3, 40, 40, 4.0)
    base, live = found.sources["base"], found.sources["live"]
    assert (base.requested, base.actual, live.requested, live.actual) == (0.25, 0.75, 0.75, 0.25)
    assert (base.shortfall, live.shortfall) == (0, 5)
    assert (live.age, base.age) == (7.0, None)
    assert (live.lag, live.jumped, base.lag) == (4, 2, -1)
    assert base.samples_per_second == pytest.approx(24 / 4)  # nobody knows when the first batch was begun
    assert base.bytes_per_second == pytest.approx(100 * 24 / 4)


def test_batches_leave_the_window_and_stay_in_the_total() -> None:
    tally = Tally(["base", "live"])
    tally.book(receipt(8, 0), now=1000.0)
    tally.book(receipt(0, 8), now=1000.0 + WINDOW)
    found = tally.statistics(WEIGHTS, {}, now=1001.0 + WINDOW)
    assert (found.samples, found.total, found.sources["live"].actual) == (8, 16, 1.0)
    assert found.seconds == pytest.approx(WINDOW + 1)
    long_after = tally.statistics(WEIGHTS, {}, now=1000.0 + 5 * WINDOW)
    assert (long_after.samples, long_after.total) == (0, 16)
    assert long_after.sources["base"].samples_per_second == 0


def test_before_the_first_batch_there_are_weights_and_zeros() -> None:
    found = make_interactive_dataset({"a": [1], "b": [2]}, {"a": 1, "b": 3}).statistics()
    assert [source.requested for source in found.sources.values()] == [0.25, 0.75]
    assert [source.actual for source in found.sources.values()] == [0, 0]


def test_a_stream_tells_its_own_figures_as_an_event() -> None:
    log = MemoryLog(1)
    for number in range(50):
        log.append(0, [key(number)], time.time() - 5)
    sources = {"base": [{"key": key(number)} for number in range(30)], "live": LiveSource(log, decode=decode)}
    data = make_interactive_dataset(sources, {"base": 1, "live": 1})
    for _ in range(5):
        step(data, 8)
    body = data.statistics().as_event()
    live = body["sources"]["live"]
    assert sum(source["samples"] for source in body["sources"].values()) == 40
    assert live["age"] == pytest.approx(5, abs=2)
    assert live["lag"] == 50 - live["samples"]
    assert live["bytes_per_second"] > 0
    event = Event(run="r", type=EventType.MIXTURE, body=body)
    assert json.loads(event.model_dump_json())["body"] == body


def test_the_figures_are_there_for_prometheus_as_they_were_told_last() -> None:
    log = MemoryLog(1)
    log.append(0, [key(number) for number in range(5)], time.time())
    data = make_interactive_dataset({"base": [{"key": "x"}], "live": LiveSource(log, decode=decode)}, {"live": 1})
    registry = CollectorRegistry()
    registry.register(data.metrics)
    assert generate_latest(registry) == b""
    data.set_weights({"base": 1})
    step(data, 8)
    data.statistics()
    text = generate_latest(registry).decode()
    assert "stovetop_mixture_version 1.0" in text
    assert "stovetop_mixture_samples_total 8.0" in text
    assert 'stovetop_mixture_source_weight{source="live"} 1.0' in text
    assert 'stovetop_mixture_source_repeats_total{source="base"}' in text
    assert 'stovetop_mixture_source_lag{source="base"}' not in text
