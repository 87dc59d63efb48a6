"""The annotator: what it asks of an app's plug-in, and that each step has one outcome whatever happens."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import annotator_caution
from ingest.annotator import Members, PassThrough, load_annotator
from ingest.annotator_caution import DEATHS, STARTS
from ingest.annotator_state import annotator_progress
from ingest.annotator_worker import AnnotatorSettings, AnnotatorWorker
from ingest.dead_letters import DeadLetters
from ingest.errors import AnnotatorError, LogError, PluginError
from ingest.log import Append
from ingest.memory import MemoryLog, MemoryReader, MemoryWriter
from ingest.plugins import load_plugin
from ingest.retention import RetentionSettings
from ingest.types import (
    DEAD,
    SAMPLES,
    STEPS,
    EndReason,
    SessionEnded,
    SessionOpened,
    SessionRecord,
    Step,
    StepsAppended,
)
from tests.ingest.visits import (
    NOTHING,
    POISON,
    Telling,
    annotated,
    append,
    dead_letters,
    interleaved,
    random_visit,
    reconcile,
    step,
    visit,
)


class CaughtUp(threading.Event):
    """Set once every record of `steps` has its outcome, durably."""

    def __init__(self, log: MemoryLog, patience: float = 20.0) -> None:
        super().__init__()
        self._log = log
        self._deadline = time.monotonic() + patience

    def is_set(self) -> bool:
        assert time.monotonic() < self._deadline, "not annotated in time"
        progress = annotator_progress(self._log)
        for (topic, partition), lane in self._log.lanes.items():
            if topic == STEPS and lane.records and not _done(progress, partition, lane.records[-1].offset):
                return False
        return True


def _done(progress: Mapping[int, object], partition: int, offset: int) -> bool:
    return partition in progress and progress[partition].done > (offset, 1 << 30)  # type: ignore[attr-defined]


def annotate(log: MemoryLog, factory: Callable[[], object] = Telling, **chosen: object) -> AnnotatorWorker:
    worker = AnnotatorWorker(log, factory, AnnotatorSettings(**chosen))  # type: ignore[arg-type]
    worker.run(CaughtUp(log))
    return worker


def logged(records: Iterable[SessionRecord], partitions: int = 1) -> MemoryLog:
    log = MemoryLog(partitions)
    writer = log.writer("gateway")
    for record in records:
        writer.commit([append(record, partitions)])
    writer.close()
    return log


def test_each_step_gets_samples_nothing_or_a_dead_letter() -> None:
    steps = [step("a", seq, do) for seq, do in enumerate([2, NOTHING, POISON, 1])]
    log = logged(visit("a", steps))
    annotate(log)
    samples = reconcile(log, visit("a", steps))
    assert [sample.key for sample in samples] == ["a/000000-00", "a/000000-01", "a/000003-00", "a/000004-00"]
    (letter,) = dead_letters(log)
    assert letter.step == steps[2]
    assert "ValueError: cannot annotate step 2" in letter.problem
    assert (letter.source.topic, letter.source.offset, letter.source.index) == (STEPS, 1, 2)


def test_a_reset_begins_an_episode_with_an_annotator_of_its_own() -> None:
    steps = [step("a", 0, 1), step("a", 1, 1), step("a", 2, 1, is_reset=True), step("a", 3, 1)]
    log = logged(visit("a", steps))
    annotate(log)
    assert [sample.members for record in annotated(log) for sample in record.samples] == [
        {"json": b'{"app": "app of a", "count": 1, "seq": 0}'},
        {"json": b'{"app": "app of a", "count": 2, "seq": 1}'},
        {"end.json": b'{"app": "app of a", "count": 2}'},
        {"json": b'{"app": "app of a", "count": 1, "seq": 2}'},
        {"json": b'{"app": "app of a", "count": 2, "seq": 3}'},
        {"end.json": b'{"app": "app of a", "count": 2}'},
    ]


def test_the_default_passes_frames_through_with_their_inputs() -> None:
    framed = Step("a", 0, 1.0, 2.0, {"x": 3}, members={"png": b"frame"}, model_version="v1")
    log = logged([StepsAppended("a", (framed, Step("a", 1, 1.0, 2.0, {"x": 4})))])
    annotate(log, load_annotator(AnnotatorSettings().plugin))
    (record,) = annotated(log)
    assert [outcome.samples for outcome in record.outcomes] == [1, 0]
    assert record.samples[0].members == {"json": b'{"x":3}', "png": b"frame"}
    assert (record.samples[0].time, record.samples[0].model_version) == (2.0, "v1")


def test_a_step_that_stands_twice_in_the_log_counts_once() -> None:
    log = logged([StepsAppended("a", (step("a", 0, 1), step("a", 1, 1))), StepsAppended("a", (step("a", 1, 1),))])
    annotate(log)
    assert [outcome.seq for record in annotated(log) for outcome in record.outcomes] == [0, 1]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({}, "at least one"),
        ({"PNG": b""}, "extension 'PNG'"),
        ({"a/b": b""}, "extension 'a/b'"),
        ({"__key__": b""}, "extension '__key__'"),
        ({"json": "text"}, "'json' is str"),
        ("png", "a mapping"),
    ],
)
def test_what_no_shard_could_hold_is_a_dead_letter(bad: object, says: str) -> None:
    class Bad(PassThrough):
        def on_step(self, step: Step) -> Iterable[Members]:
            return [bad]  # type: ignore[list-item]

    log = logged([StepsAppended("a", (step("a", 0, 1),))])
    annotate(log, Bad)
    assert says in dead_letters(log)[0].problem


def test_an_end_that_fails_is_a_dead_letter_and_takes_no_step_with_it() -> None:
    class BadEnd(Telling):
        def on_end(self) -> Iterable[Members]:
            raise RuntimeError("no end")

    steps = [step("a", 0, 1), step("a", 1, 1, is_reset=True)]
    log = logged(visit("a", steps))
    annotate(log, BadEnd)
    assert [(letter.step.seq, letter.step.inputs) for letter in dead_letters(log)] == [(1, None), (2, None)]
    assert [(o.samples, o.dead) for record in annotated(log) for o in record.outcomes] == [(1, False), (1, False)]


def test_an_annotator_that_cannot_be_made_costs_its_steps_and_nothing_else() -> None:
    made = []

    def fails_twice() -> Telling:
        made.append(1)
        if len(made) <= 2:
            raise RuntimeError("no world")
        return Telling()

    log = logged(visit("a", [step("a", seq, 1) for seq in range(4)]))
    annotate(log, fails_twice)
    assert [outcome.dead for record in annotated(log) for outcome in record.outcomes] == [True, True, False, False]


def test_ended_sessions_are_forgotten_and_free_the_restart_point() -> None:
    records = [*visit("a", [step("a", 0, 1)]), *visit("b", [step("b", 0, 1), step("b", 1, 1)], ends=False, together=1)]
    log = logged(records)
    worker = annotate(log)
    worker._look()
    assert worker.health.open_sessions == 1
    assert set(log.states["annotator"]) == {"position/0", "session/0/b"}
    progress = annotator_progress(log)[0]
    assert (progress.restart, progress.done) == ((4, 0), (6, 0))
    gateway = log.writer("gateway")
    gateway.commit([append(StepsAppended("b", (step("b", 2, 1, is_reset=True),)), 1)])
    annotate(log)
    assert annotator_progress(log)[0].restart == (6, 0)
    gateway.commit([append(SessionEnded("b", 3, EndReason.TIMEOUT, 9.0), 1)])
    annotate(log)
    assert annotator_progress(log)[0].restart == (8, 0)
    assert set(log.states["annotator"]) == {"position/0"}


def test_a_long_record_is_put_out_in_parts() -> None:
    class Heavy(PassThrough):
        def on_step(self, step: Step) -> Iterable[Members]:
            yield {"bin": bytes(200_000)}

    log = logged([StepsAppended("a", tuple(step("a", seq, 1) for seq in range(20)))])
    annotate(log, Heavy)
    assert max(len(record.value) for record in log.lanes[SAMPLES, 0].records) < 1 << 20
    assert [outcome.seq for record in annotated(log) for outcome in record.outcomes] == list(range(20))


def test_a_log_that_was_replaced_is_refused() -> None:
    log = logged(visit("a", [step("a", 0, 1)]))
    annotate(log)
    other = MemoryLog()
    other.states = log.states
    with pytest.raises(LogError, match="another log"):
        annotate(other)


def test_old_samples_are_forgotten_only_where_they_are_archived() -> None:
    log = logged(visit("a", [step("a", seq, 1) for seq in range(30)], together=1))
    annotate(log)
    archived, keep_little = 10, RetentionSettings(max_bytes=1, max_age=None)
    chosen = AnnotatorSettings(samples=keep_little, retention_interval=0.001)
    worker = AnnotatorWorker(log, Telling, chosen, lambda partition: archived)
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    reader = log.reader()
    deadline = time.monotonic() + 10
    while reader.bounds(SAMPLES, 0).start < 10:
        assert time.monotonic() < deadline
        reader.wait(0.1)
    stop.set()
    thread.join()
    assert reader.bounds(SAMPLES, 0).start == 10
    assert reader.bounds(DEAD, 0).start == 0


def test_dead_letters_can_be_counted_and_listed_newest_first() -> None:
    records = [*visit("a", [step("a", seq, POISON) for seq in range(5)]), *visit("bb", [step("bb", 0, POISON)])]
    log = logged(records, partitions=2)
    annotate(log)
    letters = DeadLetters(log)
    assert letters.count() == 6
    latest = letters.latest(4)
    assert len(latest) == 4
    times = [letter.time for _, letter in latest]
    assert times == sorted(times, reverse=True)


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Fate:
    """When the process dies: at which commit, before or after it took effect, or at which call of an annotator."""

    commits: int = 1 << 30
    after: bool = False
    calls: int = 1 << 30


class MortalLog(MemoryLog):
    """A log whose annotator dies as its fate has it; what was committed stays."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self.fate = Fate()

    def writer(self, name: str, share: int = 0, *, force: bool = False) -> MemoryWriter:
        real = super().writer(name, share, force=force)
        return MortalWriter(self, name) if name == "annotator" else real

    def annotator(self) -> Telling:
        return MortalAnnotator(self)


class MortalWriter(MemoryWriter):
    def commit(self, appends: Sequence[Append], state: Mapping[str, bytes | None] | None = None) -> list[int]:
        assert isinstance(self.log, MortalLog)
        self.log.fate.commits -= 1
        if self.log.fate.commits < 0 and not self.log.fate.after:
            raise Killed
        offsets = super().commit(appends, state)
        if self.log.fate.commits < 0:
            raise Killed
        return offsets


class MortalAnnotator(Telling):
    def __init__(self, log: MortalLog) -> None:
        super().__init__()
        self._log = log

    def on_step(self, step: Step) -> Iterable[Members]:
        self._log.fate.calls -= 1
        if self._log.fate.calls < 0:
            raise Killed
        return super().on_step(step)


fates = st.one_of(
    st.builds(Fate, commits=st.integers(0, 12), after=st.booleans()),
    st.builds(Fate, calls=st.integers(0, 25)),
)


@given(
    seed=st.integers(0, 1 << 30),
    partitions=st.integers(1, 2),
    lives=st.lists(fates, max_size=6),
    interval=st.sampled_from([0.0, 0.0, 0.003]),
    batch=st.sampled_from([1, 300, 1 << 20]),
    careful=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_whenever_it_dies_each_step_has_one_outcome_and_each_sample_is_right(
    seed: int, partitions: int, lives: list[Fate], interval: float, batch: int, careful: bool
) -> None:
    with pytest.MonkeyPatch.context() as patched:  # these deaths are nobody's fault, so no step is ever passed over
        patched.setattr(annotator_caution, "STARTS", 0 if careful else 1 << 30)
        patched.setattr(annotator_caution, "DEATHS", 1 << 30)
        live_and_die(seed, partitions, lives, AnnotatorSettings(commit_interval=interval, batch_bytes=batch))


def live_and_die(seed: int, partitions: int, lives: list[Fate], chosen: AnnotatorSettings) -> None:
    chance = random.Random(seed)
    visits = [random_visit(f"s{number}", chance, ends=chance.random() < 0.8) for number in range(chance.randint(1, 5))]
    records = list(interleaved(visits, chance))
    log = MortalLog(partitions)
    gateway = log.writer("gateway")
    todo = list(records)
    for fate in [*lives, None]:
        share = len(todo) if fate is None else chance.randint(0, len(todo))
        for record in todo[:share]:
            if chance.random() < 0.2:
                log.skip(STEPS, chance.randrange(partitions), chance.randint(1, 3))
            gateway.commit([append(record, partitions)])
        todo = todo[share:]
        if chance.random() < 0.2:
            log.skip(SAMPLES, chance.randrange(partitions), 2)
        log.fate = fate or Fate()
        try:
            AnnotatorWorker(log, log.annotator, chosen).run(CaughtUp(log))
        except Killed:
            continue
    reconcile(log, records)


def test_a_step_that_takes_the_process_down_is_passed_over_after_a_few_deaths() -> None:
    lethal = ("a", 5)

    class Lethal(Telling):
        def on_step(self, step: Step) -> Iterable[Members]:
            if (step.session_id, step.seq) == lethal:
                raise Killed
            return super().on_step(step)

    records = list(
        interleaved(
            [visit("a", [step("a", seq, 1) for seq in range(9)]), visit("b", [step("b", seq, 1) for seq in range(9)])],
            random.Random(1),
        )
    )
    log = logged(records)
    deaths = 0
    while True:
        try:
            annotate(log, Lethal)
            break
        except Killed:
            deaths += 1
            assert deaths < 10
    assert deaths <= STARTS + DEATHS + 1
    outcomes = [(record.session_id, outcome) for record in annotated(log) for outcome in record.outcomes]
    assert len(outcomes) == 18
    assert [(key, outcome.seq) for key, outcome in outcomes if outcome.dead] == [lethal]
    assert "the process died" in dead_letters(log)[0].problem
    gateway = log.writer("gateway")
    gateway.commit([append(SessionOpened("c", "app", 1.0), 1)])
    annotate(log, Lethal)  # replays nothing that kills


def test_a_lethal_step_is_not_fed_again_when_its_open_episode_is_replayed() -> None:
    class Lethal(Telling):
        def on_step(self, step: Step) -> Iterable[Members]:
            if step.seq == 1:
                raise Killed
            return super().on_step(step)

    log = logged(visit("a", [step("a", 0, 1), step("a", 1, 1)], ends=False))
    for _ in range(10):
        try:
            annotate(log, Lethal)
            break
        except Killed:
            continue
    gateway = log.writer("gateway")
    gateway.commit([append(StepsAppended("a", (step("a", 2, 1),)), 1)])
    annotate(log, Lethal)
    assert [(o.seq, o.dead) for record in annotated(log) for o in record.outcomes] == [
        (0, False),
        (1, True),
        (2, False),
    ]
    assert annotated(log)[-1].samples[0].members == {"json": b'{"app": "app of a", "count": 2, "seq": 2}'}


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("nonsense", "expected module:name"),
        ("no_such_module:thing", "importing no_such_module failed"),
        ("ingest.annotator:NoSuch", "has no NoSuch"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_says_why(reference: str, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        load_plugin(reference)


def test_a_plug_in_that_is_no_annotator_is_refused_before_any_step() -> None:
    with pytest.raises(AnnotatorError, match="no method on_step"):
        load_annotator("builtins:dict")
    with pytest.raises(AnnotatorError, match="making an annotator failed"):
        load_annotator("pathlib:Path.samefile")


def test_a_slow_annotator_s_outcomes_do_not_wait_for_the_end_of_their_record() -> None:
    reached, go_on = threading.Event(), threading.Event()

    class Slow(Telling):
        def on_step(self, step: Step) -> Iterable[Members]:
            if step.seq == 2:
                reached.set()
                assert go_on.wait(10)
            return super().on_step(step)

    log = logged([StepsAppended("a", tuple(step("a", seq, 1) for seq in range(4)))])
    worker = AnnotatorWorker(log, Slow, AnnotatorSettings(commit_interval=0.0))
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    assert reached.wait(10)
    assert [outcome.seq for record in annotated(log) for outcome in record.outcomes] == [0, 1]
    assert worker.busy_seconds >= 0
    go_on.set()
    waiting = CaughtUp(log)
    while not waiting.is_set():
        time.sleep(0.005)
    stop.set()
    thread.join()


def test_a_reader_sees_no_time_out_for_an_idle_worker() -> None:
    log = MemoryLog()
    worker = AnnotatorWorker(log, Telling)
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(log.reader(), MemoryReader)
