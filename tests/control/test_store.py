"""The record: numbered without gaps, durable when it says so, bounded over weeks, and the root of everything else."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import Event, EventType, StoreLocked, UnknownFormat
from control.bodies import BranchBody, MixtureBody, VersionBody, body
from control.store import EventFilter, Store, events, runs, samples, schema
from control.store.samples import Sample, Samples
from control.store.series import ENDLESS, pieces, series
from control.store.thin import BATCH, FACTOR, thin


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def metrics(step: int, branch: str = "main", **values: float) -> Event:
    return Event(run="r", type=EventType.METRICS, step=step, branch=branch, time=float(step), body=values)


def segment(name: str, branch: str = "main", parent: str | None = None, forked_at: int | None = None) -> Event:
    told = BranchBody(segment=name, parent=parent, forked_at=forked_at)
    return Event(run="r", type=EventType.BRANCH, branch=branch, step=forked_at, body=body(told))


def losses(store: Store, branch: str = "main", *, lineage: bool = False, points: int = 5000) -> list[tuple[int, float]]:
    [found] = series(store.connection, "r", branch, ["loss"], points, lineage=lineage)
    return [(step, value) for step, value in zip(found.steps, found.mean, strict=True) if value is not None]


def test_numbers_grow_by_one_and_go_on_after_a_restart_and_after_everything_was_thinned(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert [event.seq for event in store.append([metrics(1), metrics(2)])] == [1, 2]
    store.connection.execute("DELETE FROM events")
    store.close()
    store = Store(tmp_path)
    assert [event.seq for event in store.append([metrics(3)])] == [3]
    store.close()


def test_a_batch_is_stored_whole_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append([metrics(1, loss=1.0)])

    def fail(event: Event) -> None:
        if event.step == 3:
            raise RuntimeError("disk full")
        learn(event)

    learn = store._tables.learn
    monkeypatch.setattr(store._tables, "learn", fail)
    with pytest.raises(RuntimeError):
        store.append([metrics(2, loss=1.0), metrics(3, loss=1.0)])
    monkeypatch.undo()
    assert store.last_seq == 1
    assert [event.seq for event in store.append([metrics(4, loss=1.0)])] == [2]
    assert [step for step, _ in losses(store)] == [1, 4]


def test_commands_are_synced_to_disk_before_they_are_answered_and_figures_need_not_be(store: Store) -> None:
    asked: list[int] = []

    def synchronous() -> int:
        return int(store.connection.pragma("synchronous"))

    store.append([metrics(1)])
    asked.append(synchronous())
    store.append([Event(run="r", type=EventType.RUN, body={"status": "running"})])
    asked.append(synchronous())
    assert asked == [1, 2]  # NORMAL, FULL
    assert store.connection.pragma("journal_mode") == "wal"


def test_a_second_writer_is_refused_and_a_foreign_format_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreLocked, match="another control server has it"):
        Store(tmp_path)
    store.connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    store.close()
    with pytest.raises(UnknownFormat, match="format 99 is not known here, only up to 3"):
        Store(tmp_path)


def test_an_older_format_is_brought_up_to_date_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.append([metrics(1, loss=0.5)])
    store.close()
    monkeypatch.setattr(schema, "FORMAT", 5)
    steps: list[int] = []
    monkeypatch.setitem(schema.MIGRATIONS, 3, lambda connection: steps.append(3))
    monkeypatch.setitem(schema.MIGRATIONS, 4, lambda connection: steps.append(4))
    store = Store(tmp_path)
    assert steps == [3, 4]
    assert schema.store_format(store.connection) == 5
    assert losses(store) == [(1, 0.5)]
    store.close()


def test_a_store_of_the_first_format_learns_of_notes_on_branches_and_of_samples(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append([metrics(1, loss=0.5)])
    store.connection.execute("DROP TABLE branch_notes; DROP TABLE samples")
    store.connection.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
    store.close()
    store = Store(tmp_path)
    assert schema.store_format(store.connection) == 3
    assert losses(store) == [(1, 0.5)]
    told = {"action": "described", "title": "the first", "note": ""}
    store.append([Event(run="r", type=EventType.BRANCH, body=told)])
    assert [branch.title for branch in runs.branches(store.connection, "r")] == ["the first"]
    picture = Sample("a desk", 1, 1, b"png")
    store.append([], samples=Samples("r", 1, (picture,), keep=2))
    assert samples.by_version(store.connection, "r") == {("r", 1): (picture.info,)}
    store.close()


def test_a_resume_cuts_what_was_trained_beyond_the_checkpoint(store: Store) -> None:
    store.append([segment("s1")])
    store.append([metrics(step, loss=step * 1.0) for step in range(1, 9)])
    store.append([segment("s2", parent="s1", forked_at=5)])
    store.append([metrics(step, loss=step * 10.0) for step in range(6, 8)])
    assert losses(store) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 5.0), (6, 60.0), (7, 70.0)]


def test_a_branch_begins_where_it_forked_and_with_its_lineage_at_the_root(store: Store) -> None:
    store.append([segment("s1")])
    store.append([metrics(step, loss=1.0) for step in range(1, 7)])
    store.append([segment("b1", "try", "s1", 3)])
    store.append([metrics(step, "try", loss=2.0) for step in range(4, 7)])
    store.append([segment("s2", "main", "s1", 6)])  # the old branch goes on beside it
    store.append([metrics(7, loss=1.5), metrics(7, "try", loss=2.5)])
    assert losses(store, "try") == [(4, 2.0), (5, 2.0), (6, 2.0), (7, 2.5)]
    assert losses(store, "try", lineage=True) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0), (7, 2.5)]
    assert losses(store)[-1] == (7, 1.5)
    found = {branch.branch: branch for branch in runs.branches(store.connection, "r")}
    assert (found["try"].parent, found["try"].forked_at, found["try"].step) == ("main", 3, 7)
    assert [s.segment for s in found["main"].segments] == ["s1", "s2"]


def test_a_fork_of_a_fork_that_goes_back_before_it_leaves_out_what_lay_between(store: Store) -> None:
    store.append([segment("s1"), *(metrics(step, loss=1.0) for step in range(1, 11))])
    store.append([segment("b1", "b", "s1", 8), *(metrics(step, "b", loss=2.0) for step in range(9, 12))])
    store.append([segment("c1", "c", "b1", 4), *(metrics(step, "c", loss=3.0) for step in range(5, 7))])
    assert losses(store, "c", lineage=True) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 3.0), (6, 3.0)]


def test_segments_in_a_circle_do_not_hang(store: Store) -> None:
    store.append([segment("a", parent="b", forked_at=1), segment("b", parent="a", forked_at=1)])
    assert losses(store, lineage=True) == []
    assert pieces([], "main", True)[0].end_seq == ENDLESS


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), min_size=1, max_size=300),
    points=st.integers(1, 60),
)
def test_downsampling_keeps_the_extremes_the_mean_and_the_last_step(values: list[float], points: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.append([metrics(step, loss=value) for step, value in enumerate(values)])
        [found] = series(store.connection, "r", "main", ["loss"], points)
        store.close()
    assert len(found.steps) == min(points, len(values))
    assert found.steps[-1] == len(values) - 1
    assert list(found.steps) == sorted(found.steps)
    known = [value for value in values if not math.isnan(value)]
    lows, highs = ([value for value in column if value is not None] for column in (found.low, found.high))
    assert (min(lows, default=None), max(highs, default=None)) == (min(known, default=None), max(known, default=None))
    assert found.downsampled == (len(values) > points)


def test_thinning_bounds_the_rows_and_keeps_the_shape_of_the_curve(store: Store) -> None:
    keep, total = 1000, 30_000
    for begin in range(0, total, 1000):
        store.append([metrics(s, loss=float(s % 997), lr=0.1) for s in range(begin, begin + 1000)])
    while thin(store.connection, keep, 1000):
        pass
    rows = store.connection.execute("SELECT count(*) FROM events").get
    assert rows < 2 * (keep + BATCH) + total / FACTOR
    levels = dict(store.connection.execute("SELECT thinned, count(*) FROM events GROUP BY thinned").fetchall())
    assert levels[0] < keep + BATCH + 1
    [found] = series(store.connection, "r", "main", ["loss"], 100)
    assert (found.steps[-1], min(v for v in found.low if v is not None)) == (total - 1, 0.0)
    assert max(v for v in found.high if v is not None) == 996.0
    [event] = events.newest(store.connection, EventFilter(run="r"), 1)
    assert event.body == {"loss": float((total - 1) % 997), "lr": 0.1}  # the newest are whole


def test_thinned_rows_are_thinned_again_and_their_means_are_those_of_all(store: Store) -> None:
    keep, total = 400, 33_000
    for begin in range(0, total, 1000):
        store.append([metrics(s, loss=float(s)) for s in range(begin, begin + 1000)])
    while thin(store.connection, keep, 1000):
        pass
    rows = store.connection.execute("SELECT body, span FROM events WHERE thinned = 2 ORDER BY seq").fetchall()
    assert rows
    text, span_text = rows[0]
    span = msgspec.json.decode(span_text)
    assert span["count"] == FACTOR * FACTOR
    assert msgspec.json.decode(text)["loss"] == pytest.approx((FACTOR * FACTOR - 1) / 2)
    assert (span["low"]["loss"], span["high"]["loss"], span["first_step"]) == (0.0, FACTOR * FACTOR - 1.0, 0)


def test_no_thinned_row_spans_a_fork(store: Store) -> None:
    store.append([segment("s1")])
    store.append([metrics(s, loss=1.0) for s in range(1000)])
    store.append([segment("s2", parent="s1", forked_at=500)])
    store.append([metrics(s, loss=2.0) for s in range(501, 2500)])
    while thin(store.connection, 100, 1000):
        pass
    [found] = series(store.connection, "r", "main", ["loss"], 5000)
    assert all(step <= 500 for step, value in zip(found.steps, found.mean, strict=True) if value == 1.0)
    assert set(found.mean) == {1.0, 2.0}


def test_figures_and_heartbeats_are_dropped_and_interventions_never(store: Store) -> None:
    kinds = (EventType.PIPELINE, EventType.FOLLOWER, EventType.LOG, EventType.RUN, EventType.CHECKPOINT)
    for kind in kinds:
        store.append([Event(run="r", type=kind, body={"n": n}) for n in range(2000)])
    while thin(store.connection, 1000, 1000):
        pass
    counts = dict(store.connection.execute("SELECT type, count(*) FROM events GROUP BY type").fetchall())
    assert counts["run"] == counts["checkpoint"] == 2000
    for kind in kinds[:3]:
        assert 1000 <= counts[kind] <= 1000 + BATCH + 1
    oldest: Any = store.connection.execute("SELECT min(seq) FROM events WHERE type = 'log'").get
    assert events.after(store.connection, 0, EventFilter(types=(EventType.LOG,)), 1).rows[0][0] == oldest


def test_a_body_of_the_wrong_shape_is_kept_and_teaches_nothing(store: Store) -> None:
    store.append([Event(run="r", type=EventType.VERSION, body={"version": "seven"}), metrics(1, loss=1.0)])
    assert runs.versions(store.connection, "r", 10) == ()
    assert len(events.after(store.connection, 0, EventFilter(), 10).rows) == 2


def test_channels_point_where_they_were_moved_and_versions_know_it(store: Store) -> None:
    def told(version: int, action: str, channel: str | None = None, held: bool = False) -> Event:
        found = VersionBody.model_validate({"version": version, "action": action, "channel": channel, "held": held})
        return Event(run="r", type=EventType.VERSION, step=version * 10, body=body(found))

    store.append([told(1, "published", "stable"), told(2, "published"), told(2, "promoted", "stable")])
    store.append([told(3, "refused", "stable"), told(1, "rolled_back", "stable", held=True)])
    found = runs.versions(store.connection, "r", 10)
    assert [(v.version, v.action, v.channels, v.step) for v in found] == [
        (3, "refused", (), 30), (2, "published", (), 20), (1, "published", ("stable",), 10),
    ]  # fmt: skip
    [channel] = runs.channels(store.connection, "r")
    assert (channel.version, channel.held) == (1, True)


def test_names_of_metrics_that_never_end_are_not_all_remembered(store: Store) -> None:
    for begin in range(0, 3000, 500):
        store.append([metrics(1, **{f"m{n}": 1.0 for n in range(begin, begin + 500)})])
    assert len(runs.metric_names(store.connection, "r")) == 2000


def test_readers_do_not_wait_for_the_writer(store: Store) -> None:
    store.append([metrics(1, loss=1.0)])
    reader = schema.open_reader(store.path)
    with store.connection:
        store.connection.execute("INSERT INTO meta VALUES ('x', 'y')")
        assert events.after(reader, 0, EventFilter(), 10).last == 1
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("DELETE FROM events")
    reader.close()


def test_a_mixture_keeps_fields_that_this_version_does_not_know() -> None:
    told = MixtureBody.model_validate({"version": 1, "sources": {"live": {"weight": 1, "colour": "red"}}, "x": 1})
    assert told.model_dump()["sources"]["live"]["colour"] == "red"
