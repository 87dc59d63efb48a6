"""The books of the other tests, falsified one entry at a time: each falsification is found, and the offender named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from dataset.positions import Consumed, Span
from ingest.annotator import Members
from ingest.entries import sample_entry
from ingest.log import Append
from ingest.shard_writer import ShardWriter
from ingest.shards import DirectoryStore
from ingest.sqlite import SqliteLog
from ingest.types import (
    DEAD,
    SAMPLES,
    STEPS,
    Annotated,
    DeadLetter,
    EndReason,
    Position,
    Sample,
    SessionEnded,
    SessionOpened,
    Step,
    StepOutcome,
    StepsAppended,
)
from publish import Manifest
from tests.system import reckoning
from tests.system.reckoning import Logged, Sent, read_log
from trainer.journal import Trained
from trainer.segments import Fork, RunFolder, StartReason

NAME = "visit"
INPUTS = ({"do": "show"}, {"do": "nothing"}, {"do": "break"}, {"do": "show"})


class Doer:
    """Does what the inputs say."""

    def on_step(self, step: Step) -> Iterable[Members]:
        what = (step.inputs or {})["do"]
        if what == "break":
            raise ValueError(what)
        return [{"txt": b"%d" % step.seq}] if what == "show" else []

    def on_end(self) -> Iterable[Members]:
        return ()


def step(seq: int) -> Step:
    return Step(NAME, seq, 1.0, 2.0, INPUTS[seq])


def sample(seq: int) -> Sample:
    return Sample(NAME, seq, 0, 2.0, {"txt": b"%d" % seq})


@pytest.fixture
def logged() -> Logged:
    """One session of four steps: shown, nothing, broken, shown."""
    broken = DeadLetter(step(2), "ValueError: break", Position(STEPS, 0, 1, 2), 3.0)
    return Logged(
        opened=Counter([NAME]),
        steps={NAME: [step(seq) for seq in range(4)]},
        ends={NAME: [SessionEnded(NAME, 4, EndReason.CLIENT, 3.0)]},
        outcomes={NAME: [StepOutcome(0, 1), StepOutcome(1), StepOutcome(2, dead=True), StepOutcome(3, 1)]},
        samples=[(Position(SAMPLES, 0, 0, 0), sample(0)), (Position(SAMPLES, 0, 0, 1), sample(3))],
        dead=[broken],
    )


@pytest.fixture
def sent() -> list[Sent]:
    return [Sent(NAME, [(inputs, False, {}) for inputs in INPUTS], acked=4, ended=True)]


def test_true_books_balance(logged: Logged, sent: list[Sent]) -> None:
    reckoning.nobody_else_is_in_the_log(logged, sent)
    reckoning.acked_steps_are_logged_once_and_in_order(logged, sent)
    reckoning.sessions_open_and_end_once(logged, sent)
    reckoning.each_step_has_one_outcome(logged)
    reckoning.outcomes_say_what_is_there(logged)
    reckoning.samples_are_right(logged, Doer)


@pytest.mark.parametrize(
    ("falsify", "told"),
    [
        (lambda steps: steps.pop(), "visit/3: acknowledged"),
        (lambda steps: steps.append(steps[3]), "step 3 stands at place 4"),
        (lambda steps: steps.reverse(), "step 3 stands at place 0"),
        (lambda steps: steps.__setitem__(1, msgspec.structs.replace(steps[1], inputs={})), "visit/1: posted was"),
        (lambda steps: steps.__setitem__(1, msgspec.structs.replace(steps[1], is_reset=True)), "visit/1: posted was"),
    ],
    ids=["lost", "twice", "out of order", "changed", "another flag"],
)
def test_a_step_is_missed(logged: Logged, sent: list[Sent], falsify: Callable[[list[Step]], None], told: str) -> None:
    falsify(logged.steps[NAME])
    with pytest.raises(AssertionError, match=told):
        reckoning.acked_steps_are_logged_once_and_in_order(logged, sent)


def test_a_session_that_opens_twice_or_never_ends_is_found(logged: Logged, sent: list[Sent]) -> None:
    logged.opened[NAME] += 1
    with pytest.raises(AssertionError, match="opened 2 times"):
        reckoning.sessions_open_and_end_once(logged, sent)
    logged.opened[NAME] -= 1
    logged.ends.clear()
    with pytest.raises(AssertionError, match="it has 0 ends"):
        reckoning.sessions_open_and_end_once(logged, sent)
    logged.ends[NAME] = [SessionEnded(NAME, 3, EndReason.CLIENT, 3.0)]
    with pytest.raises(AssertionError, match="its end counts 3 steps, the log holds 4"):
        reckoning.sessions_open_and_end_once(logged, sent)
    logged.opened["stranger"] += 1
    with pytest.raises(AssertionError, match="stranger: nobody opened it"):
        reckoning.nobody_else_is_in_the_log(logged, sent)


def test_an_outcome_that_is_missing_or_doubled_is_found(logged: Logged) -> None:
    outcomes = logged.outcomes[NAME]
    outcomes.append(outcomes[1])
    with pytest.raises(AssertionError, match="visit/1: it has 2 outcomes"):
        reckoning.each_step_has_one_outcome(logged)
    del outcomes[1], outcomes[-1]
    with pytest.raises(AssertionError, match="visit/1: it has 0 outcomes"):
        reckoning.each_step_has_one_outcome(logged)
    outcomes += [StepOutcome(1), StepOutcome(9)]
    with pytest.raises(AssertionError, match="visit/9: an outcome without a step"):
        reckoning.each_step_has_one_outcome(logged)


def test_samples_and_dead_letters_that_are_not_as_said_are_found(logged: Logged) -> None:
    letters = list(logged.dead)
    logged.dead.clear()
    with pytest.raises(AssertionError, match=r"visit/2: \(samples, dead letters\) are \(0, 0\)"):
        reckoning.outcomes_say_what_is_there(logged)
    logged.dead += [*letters, *letters]
    with pytest.raises(AssertionError, match=r"visit/2: .* are \(0, 2\)"):
        reckoning.outcomes_say_what_is_there(logged)
    logged.dead.pop()
    logged.samples.append(logged.samples[0])
    with pytest.raises(AssertionError, match="visit/000000-00: it stands 2 times"):
        reckoning.outcomes_say_what_is_there(logged)


def test_a_sample_that_was_made_otherwise_is_found(logged: Logged) -> None:
    position, right = logged.samples[1]
    logged.samples[1] = (position, msgspec.structs.replace(right, members={"txt": b"0"}))
    with pytest.raises(AssertionError, match="visit/3: its samples are not what it did"):
        reckoning.samples_are_right(logged, Doer)
    logged.samples.pop()
    with pytest.raises(AssertionError, match="visit/3: its samples"):
        reckoning.samples_are_right(logged, Doer)
    logged.dead.clear()
    with pytest.raises(AssertionError, match="visit/2: dead letter or not"):
        reckoning.samples_are_right(logged, Doer)


# Log and shards


@pytest.fixture
def log(tmp_path: Path, logged: Logged) -> SqliteLog:
    """The session in a log of its own, in partition 0."""
    log = SqliteLog(tmp_path / "log")
    values = [SessionOpened(NAME, "app", 1.0), StepsAppended(NAME, tuple(logged.steps[NAME])), logged.ends[NAME][0]]
    with closing(log.writer("gateway")) as gateway:
        gateway.commit([Append(STEPS, 0, NAME, msgspec.msgpack.encode(value), 1.0) for value in values])
    outcome = Annotated(NAME, tuple(logged.outcomes[NAME]), tuple(each for _, each in logged.samples))
    with closing(log.writer("annotator")) as annotator:
        annotator.commit(
            [
                Append(SAMPLES, 0, NAME, msgspec.msgpack.encode(outcome), 1.0),
                Append(DEAD, 0, NAME, msgspec.msgpack.encode(logged.dead[0]), 1.0),
            ]
        )
    return log


def archive(store: DirectoryStore, samples: Iterable[Sample], offset: int = 0) -> None:
    writer = ShardWriter(store, SAMPLES, 0, offset)
    for index, each in enumerate(samples):
        writer.add(sample_entry(each, offset, index))
    writer.record(offset, 1.0)
    assert writer.publish()


def test_the_log_is_read_as_it_is(log: SqliteLog, logged: Logged) -> None:
    assert read_log(log) == logged


def test_a_sample_without_a_shard_or_with_two_is_found(log: SqliteLog, logged: Logged, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "shards")
    with pytest.raises(AssertionError, match="steps/0: archived up to 0, a record stands at 0"):
        reckoning.chains_have_no_gap_and_no_overlap(log, store)
    with pytest.raises(AssertionError, match="visit/000000-00: it stands in 0 shards"):
        reckoning.each_sample_stands_in_one_shard(logged, store)
    with pytest.raises(AssertionError, match="visit/0: the step stands in 0 shards"):
        reckoning.each_step_stands_in_one_shard(logged, store)
    archive(store, [sample(0), sample(3)])
    reckoning.each_sample_stands_in_one_shard(logged, store)
    archive(store, [sample(3)], offset=1)
    with pytest.raises(AssertionError, match="visit/000003-00: it stands in 2 shards"):
        reckoning.each_sample_stands_in_one_shard(logged, store)


def test_a_sample_that_was_archived_otherwise_is_found(logged: Logged, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "shards")
    archive(store, [sample(3), sample(0)])
    with pytest.raises(AssertionError, match="visit/000000-00: archived otherwise than logged"):
        reckoning.each_sample_stands_in_one_shard(logged, store)


# Training


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two segments: the first did 3 steps, the second forks at its step 2 and did 2 more."""
    run = RunFolder(tmp_path / "run")
    run.open_segment("run", "main", StartReason.FRESH, None)
    run.open_segment("run", "main", StartReason.RESUME, Fork("s000001", 2, "uuid", "path"))
    train(run, 1, (1, {"live": [sample(0).key]}), (2, {"history": [sample(0).key]}), (3, {"live": [sample(3).key]}))
    train(run, 2, (3, {"base": ["b"]}), (4, {"live": [sample(3).key]}))
    return run


def train(run: RunFolder, segment: int, *steps: tuple[int, dict[str, list[str]]]) -> None:
    folder = run.folder_of(f"s{segment:06d}") / "trained"
    folder.mkdir(exist_ok=True)
    with (folder / "r0-000000.jsonl").open("ab") as file:
        for number, keys in steps:
            file.write(msgspec.json.encode(Trained(number, 1.0, keys)) + b"\n")


def manifest(segment: str, number: int, *spans: tuple[int, int]) -> Manifest:
    """A version of a step that says it was trained on the samples between two indexes of the first record."""
    consumed = Consumed()
    for start, end in spans:
        consumed.add("live", Span("0", (0, start), (0, end)))
    return Manifest(1, 1, 1.0, "run", "main", segment, number, False, None, {}, consumed=consumed.dump())


def test_true_journals_balance(logged: Logged, run: RunFolder) -> None:
    reckoning.no_sample_was_trained_twice(run)
    reckoning.every_sample_was_trained(logged, run)
    reckoning.history_follows_live(run)
    true = [manifest("s000001", 2, (0, 1)), manifest("s000001", 3, (0, 2)), manifest("s000002", 3, (0, 1))]
    reckoning.versions_hold_what_they_say(logged, run, true)


def test_a_sample_that_is_trained_twice_along_a_chain_is_found(run: RunFolder) -> None:
    train(run, 2, (5, {"live": [sample(0).key]}))
    with pytest.raises(AssertionError, match="visit/000000-00: trained 2 times along the chain of s000002"):
        reckoning.no_sample_was_trained_twice(run)


def test_a_sample_that_is_passed_over_is_found(logged: Logged, run: RunFolder) -> None:
    unseen = msgspec.structs.replace(sample(1), index=7)
    logged.samples.append((Position(SAMPLES, 0, 0, 2), unseen))
    with pytest.raises(AssertionError, match="visit/000001-07 and 0 others: consumed, but never trained"):
        reckoning.every_sample_was_trained(logged, run)
    logged.samples[:] = logged.samples[:1]
    with pytest.raises(AssertionError, match="visit/000003-00: trained, but not in the log"):
        reckoning.every_sample_was_trained(logged, run)


def test_a_history_that_runs_ahead_is_found(run: RunFolder) -> None:
    train(run, 1, (0, {"history": ["ahead"]}))
    with pytest.raises(AssertionError, match="ahead: from history at step 0 of s000001"):
        reckoning.history_follows_live(run)


@pytest.mark.parametrize(
    ("false", "told"),
    [
        (manifest("s000001", 3, (0, 1)), "visit/000003-00: trained only, says version 000001"),
        (manifest("s000001", 2, (0, 2)), "visit/000003-00: consumed only, says version 000001"),
        (manifest("s000002", 4), "visit/000000-00: trained only"),
    ],
    ids=["too few", "too many", "none"],
)
def test_a_version_that_says_what_is_not_true_is_found(
    logged: Logged, run: RunFolder, false: Manifest, told: str
) -> None:
    with pytest.raises(AssertionError, match=told):
        reckoning.versions_hold_what_they_say(logged, run, [false])


def test_a_number_that_is_used_twice_is_found(tmp_path: Path) -> None:
    reckoning.numbers_are_never_used_twice([(None, "base"), (1, "a"), (2, "b"), (1, "a")])
    with pytest.raises(AssertionError, match="version 000001 had two contents"):
        reckoning.numbers_are_never_used_twice([(1, "a"), (1, "b")])


def test_a_death_that_nobody_caused_is_found() -> None:
    told = "gateway ended with status -9: starting it again in 0.5 s\ntrain ended with status 1: starting it again\n"
    reckoning.only_the_killed_died(told, Counter(gateway=1, train=1))
    with pytest.raises(AssertionError, match="train: killed 0 times, died 1 times"):
        reckoning.only_the_killed_died(told, Counter(gateway=1))
    with pytest.raises(AssertionError, match="gateway: killed 2 times, died 1 times"):
        reckoning.only_the_killed_died(told, Counter(gateway=2, train=1))
