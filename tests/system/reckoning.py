"""What must be true of a service's data, whatever happened to its processes: each function raises, naming the first
offender. They read the log, the shards, the journals and the hub; they ask no process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from dataset.positions import Consumed
from ingest.annotator import AnnotatorFactory, Members
from ingest.log import Log, LogReader, Record
from ingest.records import annotated, dead_letter, session_record
from ingest.shard_reader import Shard, ShardChain
from ingest.shards import ShardStore, chain_folder, first_offset_of
from ingest.types import (
    DEAD,
    SAMPLES,
    STEPS,
    DeadLetter,
    Position,
    Sample,
    SessionEnded,
    SessionOpened,
    Step,
    StepOutcome,
    StepsAppended,
)
from publish import Hub, Manifest, decode_manifest
from trainer.journal import Trained, trained_in
from trainer.segments import RunFolder

LIVE, HISTORY = "live", "history"


@dataclass
class Sent:
    """What a client knows of one session: what it posted, how much of it was acknowledged, and whether it ended it."""

    session_id: str
    steps: list[tuple[Mapping[str, Any] | None, bool, Mapping[str, bytes]]] = field(default_factory=list)
    acked: int = 0
    ended: bool = False


@dataclass
class Logged:
    """Everything that stands in the log, by session and in order."""

    opened: Counter[str] = field(default_factory=Counter)
    steps: dict[str, list[Step]] = field(default_factory=dict)
    ends: dict[str, list[SessionEnded]] = field(default_factory=dict)
    outcomes: dict[str, list[StepOutcome]] = field(default_factory=dict)
    samples: list[tuple[Position, Sample]] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)

    @property
    def positions(self) -> dict[str, Position]:
        """Where each sample stands, by key."""
        return {sample.key: position for position, sample in self.samples}


def read_log(log: Log) -> Logged:
    """Read all topics from their start."""
    found = Logged()
    with closing(log.reader()) as reader:
        for record in _records(reader, STEPS):
            _take_session_record(found, record)
        for record in _records(reader, SAMPLES):
            value = annotated(record)
            found.outcomes.setdefault(value.session_id, []).extend(value.outcomes)
            for index, sample in enumerate(value.samples):
                found.samples.append((Position(SAMPLES, record.partition, record.offset, index), sample))
        found.dead = [dead_letter(record) for record in _records(reader, DEAD)]
    return found


# From the client to the log


def acked_steps_are_logged_once_and_in_order(logged: Logged, sent: Iterable[Sent]) -> None:
    """No acknowledged step is missing, none stands twice or out of order, and each holds what was posted."""
    for session in sent:
        steps = logged.steps.get(session.session_id, [])
        for place, step in enumerate(steps):
            assert step.seq == place, f"{session.session_id}: step {step.seq} stands at place {place} of the log"
            told = (step.inputs, step.is_reset, dict(step.members))
            posted = session.steps[place] if place < len(session.steps) else None
            assert posted == told, f"{session.session_id}/{step.seq}: posted was {posted}, logged is {told}"
        assert len(steps) >= session.acked, (
            f"{session.session_id}/{len(steps)}: acknowledged (up to {session.acked - 1}), but not in the log"
        )


def sessions_open_and_end_once(logged: Logged, sent: Iterable[Sent]) -> None:
    """Each session has one opening and one end, which counts its steps."""
    for session in sent:
        name = session.session_id
        if not session.acked and not session.ended:
            continue  # nothing was promised
        assert logged.opened[name] == 1, f"{name}: opened {logged.opened[name]} times"
        ends = logged.ends.get(name, [])
        assert len(ends) == 1, f"{name}: it has {len(ends)} ends"
        steps = len(logged.steps.get(name, []))
        assert ends[0].next_seq == steps, f"{name}: its end counts {ends[0].next_seq} steps, the log holds {steps}"


def ingest_balances(
    logged: Logged, sent: Sequence[Sent], factory: AnnotatorFactory, log: Log, store: ShardStore
) -> None:
    """All that must be true from the client to the shards."""
    nobody_else_is_in_the_log(logged, sent)
    acked_steps_are_logged_once_and_in_order(logged, sent)
    sessions_open_and_end_once(logged, sent)
    each_step_has_one_outcome(logged)
    outcomes_say_what_is_there(logged)
    samples_are_right(logged, factory)
    chains_have_no_gap_and_no_overlap(log, store)
    each_sample_stands_in_one_shard(logged, store)
    each_step_stands_in_one_shard(logged, store)


def nobody_else_is_in_the_log(logged: Logged, sent: Iterable[Sent]) -> None:
    """The log holds no session that nobody opened, and no second copy under another name."""
    strangers = sorted(logged.opened.keys() - {session.session_id for session in sent})
    assert not strangers, f"{strangers[0]}: nobody opened it"


# From a step to its outcome


def each_step_has_one_outcome(logged: Logged) -> None:
    """Samples, nothing, or a dead letter: one of them, once, for every step in the log."""
    for name, steps in logged.steps.items():
        counts = Counter(outcome.seq for outcome in logged.outcomes.get(name, []))
        for step in steps:
            assert counts[step.seq] == 1, f"{name}/{step.seq}: it has {counts[step.seq]} outcomes"
        surplus = sorted(counts.keys() - {step.seq for step in steps})
        assert not surplus, f"{name}/{surplus[0]}: an outcome without a step"


def outcomes_say_what_is_there(logged: Logged) -> None:
    """As many samples and dead letters as the outcomes say, each once."""
    samples = Counter((sample.session_id, sample.seq) for _, sample in logged.samples)
    letters = Counter((letter.step.session_id, letter.step.seq) for letter in logged.dead)
    keys = Counter(sample.key for _, sample in logged.samples)
    twice = next((key for key, count in keys.items() if count > 1), None)
    assert twice is None, f"{twice}: it stands {keys[twice or '']} times in the topic of samples"
    for name, outcomes in logged.outcomes.items():
        for outcome in outcomes:
            found = (samples.pop((name, outcome.seq), 0), letters.pop((name, outcome.seq), 0))
            said = (outcome.samples, int(outcome.dead))
            assert found == said, f"{name}/{outcome.seq}: (samples, dead letters) are {found}, its outcome says {said}"
    assert not samples, f"{next(iter(samples))}: samples without an outcome"
    assert not letters, f"{next(iter(letters))}: a dead letter without an outcome"


def samples_are_right(logged: Logged, factory: AnnotatorFactory) -> None:
    """Annotating every session once more, without a break, gives the same samples and dead letters."""
    found: dict[tuple[str, int], list[Members]] = {}
    for _, sample in sorted(logged.samples, key=lambda pair: pair[1].index):
        found.setdefault((sample.session_id, sample.seq), []).append(sample.members)
    buried = {(letter.step.session_id, letter.step.seq) for letter in logged.dead}
    for name, steps in logged.steps.items():
        annotator = factory()
        for step in steps:
            if step.is_reset:
                annotator = factory()
            try:
                right: list[Members] | None = None if step.rejected else list(annotator.on_step(step))
            except Exception:
                right = None
            identity = (name, step.seq)
            assert (identity in buried) == (right is None), f"{name}/{step.seq}: dead letter or not, it is wrong"
            assert found.get(identity, []) == (right or []), f"{name}/{step.seq}: its samples are not what it did"


# From the log to the shards


def chains_have_no_gap_and_no_overlap(log: Log, store: ShardStore) -> None:
    """Each chain of shards covers its partition of the log from the first offset to the end."""
    with closing(log.reader()) as reader:
        for topic in (STEPS, SAMPLES):
            for partition in range(reader.partitions(topic)):
                expected = 0
                for name in store.names(chain_folder(topic, partition)):
                    shard = Shard(store, name)
                    assert first_offset_of(name) == expected, f"{name}: the chain was at {expected}"
                    shard.verify()
                    expected = shard.summary.next_offset
                left = reader.fetch(topic, partition, expected, 1).records
                assert not left, f"{topic}/{partition}: archived up to {expected}, a record stands at {left[0].offset}"
                end = reader.bounds(topic, partition).end
                assert expected <= end, f"{topic}/{partition}: archived up to {expected}, the log ends at {end}"


def each_sample_stands_in_one_shard(logged: Logged, store: ShardStore, partitions: int = 4) -> None:
    """The archive holds the samples of the log: each once, at its position, with its content."""
    archived: Counter[str] = Counter()
    contents: dict[str, tuple[Position, Members]] = {}
    for partition in range(partitions):
        for position, sample in ShardChain(store, SAMPLES, partition).samples():
            archived[sample.key] += 1
            contents[sample.key] = (position, dict(sample.members))
    for position, sample in logged.samples:
        times = archived.pop(sample.key, 0)
        assert times == 1, f"{sample.key}: it stands in {times} shards"
        assert contents[sample.key] == (position, dict(sample.members)), f"{sample.key}: archived otherwise than logged"
    assert not archived, f"{next(iter(archived))}: archived, but not in the log"


def each_step_stands_in_one_shard(logged: Logged, store: ShardStore, partitions: int = 4) -> None:
    """The archive holds the raw steps too, for an annotator to come."""
    archived = Counter(
        (step.session_id, step.seq)
        for partition in range(partitions)
        for _, record in ShardChain(store, STEPS, partition).records()
        if isinstance(record, StepsAppended)
        for step in record.steps
    )
    for name, steps in logged.steps.items():
        for step in steps:
            times = archived.pop((name, step.seq), 0)
            assert times == 1, f"{name}/{step.seq}: the step stands in {times} shards"
    assert not archived, f"{next(iter(archived))}: archived, but not in the log"


# From a sample to the gradient


def trained_up_to(run: RunFolder, segment: str, step: int | None = None) -> Iterator[tuple[str, Trained]]:
    """What the chain of a segment trained up to a step of it, the root first."""
    for stretch in run.chain(segment):
        until = step if stretch.segment.id == segment else stretch.until
        for entry in trained_in(run.folder_of(stretch.segment.id), until):
            yield stretch.segment.id, entry


def keys_of(source: str, trained: Iterable[tuple[str, Trained]]) -> list[str]:
    """The keys that were trained from one source, in order."""
    return [key for _, entry in trained for key in entry.keys.get(source, ())]


def no_sample_was_trained_twice(run: RunFolder) -> None:
    """At most once through `live`, along the chain of every segment."""
    for segment in run.segments():
        counts = Counter(keys_of(LIVE, trained_up_to(run, segment.id)))
        twice = next((key for key, count in counts.items() if count > 1), None)
        assert twice is None, f"{twice}: trained {counts[twice or '']} times along the chain of {segment.id}"


def every_sample_was_trained(logged: Logged, run: RunFolder) -> None:
    """Once all is settled, each sample went into a gradient of the newest chain."""
    trained = set(keys_of(LIVE, trained_up_to(run, run.segments()[-1].id)))
    missed = [sample.key for _, sample in logged.samples if sample.key not in trained]
    assert not missed, f"{missed[0]} and {len(missed) - 1} others: consumed, but never trained"
    unknown = sorted(trained - logged.positions.keys())
    assert not unknown, f"{unknown[0]}: trained, but not in the log"


def history_follows_live(run: RunFolder) -> None:
    """What came from `history` had come from `live` before, in the same chain."""
    for segment in run.segments():
        passed: set[str] = set()
        for name, entry in trained_up_to(run, segment.id):
            passed.update(entry.keys.get(LIVE, ()))
            early = next((key for key in entry.keys.get(HISTORY, ()) if key not in passed), None)
            assert early is None, f"{early}: from history at step {entry.step} of {name}, before live had passed it"


# From the gradient to the version


def manifests(hub: Hub) -> list[Manifest]:
    """Those of every version that was ever published."""
    return [decode_manifest(hub.manifest(number), f"version {number:06d}") for number in hub.numbers()]


def versions_hold_what_they_say(logged: Logged, run: RunFolder, published: Sequence[Manifest]) -> None:
    """The positions of each manifest are those of the samples that its chain had trained up to its step."""
    positions = logged.positions
    for manifest in published:
        trained = set(keys_of(LIVE, trained_up_to(run, manifest.segment, manifest.step)))
        consumed = Consumed.load(manifest.consumed)
        covered = {key for key, position in positions.items() if covers(consumed, position)}
        odd = sorted(trained ^ covered)
        where = f"version {manifest.label} (step {manifest.step} of {manifest.segment})"
        assert not odd, f"{odd[0]}: {'trained' if odd[0] in trained else 'consumed'} only, says {where}"


def covers(consumed: Consumed, position: Position) -> bool:
    """Whether a sample is among what was consumed through `live`."""
    intervals = consumed.sources.get(LIVE, {}).get(str(position.partition))
    start = (position.offset, position.index)
    return intervals is not None and intervals.covers(start, (position.offset, position.index + 1))


def numbers_are_never_used_twice(loads: Iterable[tuple[int | None, str]]) -> None:
    """A version's number stands for one content, for ever: `loads` are numbers and digests of manifests."""
    known: dict[int, str] = {}
    for version, digest in loads:
        if version is not None:
            assert known.setdefault(version, digest) == digest, f"version {version:06d} had two contents"


# Of the processes


def deaths(warned: str) -> Counter[str]:
    """How often each role died, by the supervisor's own account."""
    return Counter(
        line.split(" ended with status")[0].split()[-1] for line in warned.splitlines() if "ended with" in line
    )


def only_the_killed_died(warned: str, killed: Counter[str]) -> None:
    """No role died but those that were killed, and none more often: so nothing restarts in a loop of its own."""
    died = deaths(warned)
    for role in sorted(died.keys() | killed.keys()):
        assert died[role] == killed[role], f"{role}: killed {killed[role]} times, died {died[role]} times:\n{warned}"


def _take_session_record(found: Logged, record: Record) -> None:
    value = session_record(record)
    match value:
        case SessionOpened():
            found.opened[value.session_id] += 1
        case StepsAppended():
            found.steps.setdefault(value.session_id, []).extend(value.steps)
        case SessionEnded():
            found.ends.setdefault(value.session_id, []).append(value)


def _records(reader: LogReader, topic: str) -> Iterator[Record]:
    for partition in range(reader.partitions(topic)):
        offset = reader.bounds(topic, partition).start
        while (fetched := reader.fetch(topic, partition, offset)).records:
            yield from fetched.records
            offset = fetched.next_offset
