"""What an actor keeps until the server has it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from control import Event, EventType, Report, Status
from control.outbox import Outbox, packets


def event(n: int, kind: EventType = EventType.METRICS) -> Event:
    return Event(run="r", type=kind, step=n, body={"n": n})


def report(n: int) -> Report:
    return Report(uuid=str(n), status=Status.RUNNING)


@given(kinds=st.lists(st.sampled_from("mrv"), max_size=60), limit=st.integers(1, 20), batch=st.integers(1, 7))
def test_what_is_kept_is_sent_once_in_order_and_only_the_oldest_figures_go(
    kinds: list[str], limit: int, batch: int
) -> None:
    outbox = Outbox(limit)
    for n, kind in enumerate(kinds):
        outbox.add(report(n) if kind == "r" else event(n, EventType.RUN if kind == "v" else EventType.METRICS))
    figures = [n for n, kind in enumerate(kinds) if kind == "m"]
    gone = set(figures[: max(0, len(figures) - limit)])
    expected = [n + 1 for n in range(len(kinds)) if n not in gone]

    sent: list[int] = []
    while items := outbox.after(sent[-1] if sent else 0, batch):
        sent += [number for number, _ in items]
    assert sent == expected
    assert outbox.take_dropped().count == len(gone)
    assert outbox.take_dropped().count == 0
    outbox.acknowledge(len(kinds))
    assert len(outbox) == 0


@given(kinds=st.lists(st.sampled_from("mr"), min_size=1, max_size=40), gaps=st.sets(st.integers(1, 40)))
def test_packets_carry_the_number_of_everything_in_them(kinds: list[str], gaps: set[int]) -> None:
    items = [(n + 1, report(n) if kind == "r" else event(n)) for n, kind in enumerate(kinds) if n + 1 not in gaps]
    found: list[int] = []
    for packet in packets(items):
        message = json.loads(packet)
        if message["type"] == "report":
            found.append(message["number"])
        else:
            found += range(message["first"], message["first"] + len(message["events"]))
            assert [e["body"]["n"] + 1 for e in message["events"]] == found[-len(message["events"]) :]
    assert found == [number for number, _ in items]


def test_many_large_events_are_split_and_every_number_is_kept() -> None:
    items = [(n, Event(run="r", type=EventType.LOG, body={"message": "x" * (3 << 20)})) for n in range(1, 8)]
    messages = [json.loads(packet) for packet in packets(items)]
    assert max(len(packet) for packet in packets(items)) <= 8 << 20
    assert [m["first"] + i for m in messages for i in range(len(m["events"]))] == list(range(1, 8))
