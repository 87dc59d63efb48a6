"""A load with everything that happens to an annotator, an annotator that shows its state, and the reckoning afterwards.

What becomes of a step is written in its inputs, so a test knows it beforehand: `"poison"` raises, `"nothing"` gives no
sample, a number gives as many samples. A sample says how many steps of its episode had come, so one that was made with
a state that was wrongly rebuilt is found out.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from ingest.annotator import Members
from ingest.log import Append, Log, LogReader, Record, partition_of
from ingest.types import (
    DEAD,
    SAMPLES,
    STEPS,
    Annotated,
    DeadLetter,
    EndReason,
    Sample,
    SessionEnded,
    SessionOpened,
    SessionRecord,
    Step,
    StepOutcome,
    StepsAppended,
)

POISON = "poison"
NOTHING = "nothing"


class Telling:
    """Counts the steps of its episode, poison included, and tells the count in its samples."""

    def __init__(self) -> None:
        self.app = ""
        self.count = 0

    def on_open(self, session: SessionOpened) -> None:
        self.app = session.app

    def on_step(self, step: Step) -> Iterable[Members]:
        assert step.inputs is not None
        self.count += 1
        what = step.inputs["do"]
        if what == POISON:
            yield self._told(step.seq)  # dropped with the step
            raise ValueError(f"cannot annotate step {step.seq}")
        for _ in range(0 if what == NOTHING else what):
            yield self._told(step.seq)

    def on_end(self) -> Iterable[Members]:
        yield {"end.json": json.dumps({"app": self.app, "count": self.count}).encode()}

    def _told(self, seq: int) -> Members:
        return {"json": json.dumps({"app": self.app, "count": self.count, "seq": seq}).encode()}


class Hanging(Telling):
    """Never comes back from its second step."""

    def on_step(self, step: Step) -> Iterable[Members]:
        if step.seq == 1:
            threading.Event().wait()
        return super().on_step(step)


def step(session_id: str, seq: int, do: str | int, *, is_reset: bool = False) -> Step:
    return Step(session_id, seq, 1.0, 2.0, {"do": do}, is_reset, model_version=f"v{seq // 4}")


def visit(session_id: str, steps: Iterable[Step], *, ends: bool = True, together: int = 3) -> list[SessionRecord]:
    """The records of one session, `together` steps in each."""
    todo = list(steps)
    records: list[SessionRecord] = [SessionOpened(session_id, f"app of {session_id}", 1.0)]
    for start in range(0, len(todo), together):
        records.append(StepsAppended(session_id, tuple(todo[start : start + together])))
    if ends:
        records.append(SessionEnded(session_id, len(todo), EndReason.CLIENT, 3.0))
    return records


def random_visit(session_id: str, chance: random.Random, *, ends: bool = True) -> list[SessionRecord]:
    kinds: list[str | int] = [POISON, NOTHING, 1, 1, 2, 3]
    steps = [
        step(session_id, seq, chance.choice(kinds), is_reset=chance.random() < 0.15)
        for seq in range(chance.randint(0, 12))
    ]
    return visit(session_id, steps, ends=ends, together=chance.randint(1, 5))


def interleaved(visits: Iterable[list[SessionRecord]], chance: random.Random) -> Iterator[SessionRecord]:
    """The records of several sessions, mixed, each session's in order."""
    waiting = [list(records) for records in visits]
    while waiting := [records for records in waiting if records]:
        yield chance.choice(waiting).pop(0)


def append(record: SessionRecord, partitions: int, time: float = 1.0) -> Append:
    partition = partition_of(record.session_id, partitions)
    return Append(STEPS, partition, record.session_id, msgspec.msgpack.encode(record), time)


def read(reader: LogReader, topic: str, partition: int) -> Iterator[Record]:
    offset = reader.bounds(topic, partition).start
    while (fetched := reader.fetch(topic, partition, offset)).records:
        yield from fetched.records
        offset = fetched.next_offset


def annotated(log: Log) -> list[Annotated]:
    """All that was put out, by partition and in order."""
    reader = log.reader()
    return [
        msgspec.msgpack.decode(record.value, type=Annotated)
        for partition in range(reader.partitions(SAMPLES))
        for record in read(reader, SAMPLES, partition)
    ]


def dead_letters(log: Log) -> list[DeadLetter]:
    reader = log.reader()
    return [
        msgspec.msgpack.decode(record.value, type=DeadLetter)
        for partition in range(reader.partitions(DEAD))
        for record in read(reader, DEAD, partition)
    ]


def expected(records: Iterable[SessionRecord]) -> tuple[dict[str, list[StepOutcome]], dict[str, bytes]]:
    """What must come of these sessions: outcomes by session, and the contents of each sample by its key."""
    outcomes: dict[str, list[StepOutcome]] = {}
    contents: dict[str, bytes] = {}
    annotators: dict[str, Telling] = {}
    apps: dict[str, SessionOpened] = {}
    for record in records:
        key = record.session_id
        if isinstance(record, SessionOpened):
            apps[key] = record
            outcomes[key] = []
        elif isinstance(record, SessionEnded):
            if key in annotators:
                _keep(contents, key, record.next_seq, annotators[key].on_end())
        else:
            for each in record.steps:
                made: list[Members] = []
                if key not in annotators or each.is_reset:
                    made += annotators[key].on_end() if key in annotators else ()
                    annotators[key] = Telling()
                    annotators[key].on_open(apps[key])
                dead = False
                try:
                    made += list(annotators[key].on_step(each))
                except ValueError:
                    dead = True
                _keep(contents, key, each.seq, made)
                outcomes[key].append(StepOutcome(each.seq, len(made), dead))
    return outcomes, contents


def _keep(contents: dict[str, bytes], session_id: str, seq: int, outputs: Iterable[Members]) -> None:
    for index, members in enumerate(outputs):
        contents[Sample(session_id, seq, index, 0.0, {}).key] = next(iter(members.values()))


def reconcile(log: Log, records: Iterable[SessionRecord]) -> list[Sample]:
    """Every step has exactly one outcome, every sample is there once and is right; gives the samples."""
    records = list(records)
    outcomes, contents = expected(records)
    found: dict[str, list[StepOutcome]] = {key: [] for key in outcomes}
    samples: list[Sample] = []
    for record in annotated(log):
        found[record.session_id] += record.outcomes
        samples += record.samples
    assert found == outcomes
    assert [key for key, count in Counter(sample.key for sample in samples).items() if count > 1] == []
    assert {sample.key: next(iter(sample.members.values())) for sample in samples} == contents
    assert all(sample.model_version is not None for sample in samples)
    buried = sorted((letter.step.session_id, letter.step.seq) for letter in dead_letters(log))
    assert buried == sorted(
        (key, outcome.seq) for key, listed in outcomes.items() for outcome in listed if outcome.dead
    )
    return samples
