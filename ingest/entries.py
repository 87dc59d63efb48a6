"""What one row of a shard holds, and how samples and session records become one and come back.

A sample is archived under its own key. A step is archived like the tar that brought it: `{key}.json` (the step without
its binary members) beside the members. The opening and the end of a session stand in order between the steps, under
`__session__/`, which webdataset skips; so a shard of the topic `steps` gives back every record, for an annotator to
be run over the past.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.errors import SampleRemoved, ShardError
from ingest.types import (
    Rejection,
    Sample,
    SessionDeleted,
    SessionEnded,
    SessionOpened,
    SessionRecord,
    Step,
    StepRetried,
    StepsAppended,
)

HIDDEN = "__session__/"


class Entry(msgspec.Struct, frozen=True):
    """One row of a shard: a sample, a step, or the opening or end of a session.

    Of one that was deleted only its place is left, without key and members. `traceparent` is a sample's; a step has its
    own in its JSON.
    """

    offset: int
    index: int
    key: str
    time: float
    members: Mapping[str, bytes]
    model_version: str | None = None
    traceparent: str | None = None

    @property
    def hidden(self) -> bool:
        """Whether webdataset skips it."""
        return self.key.startswith(HIDDEN)

    @property
    def tombstone(self) -> bool:
        """Whether it says that its session was deleted: the one entry of such a session that stays."""
        return self.hidden and self.key.endswith("/deleted")

    @property
    def removed(self) -> bool:
        """Whether it was deleted from the archive."""
        return not self.members


class _StepText(msgspec.Struct, omit_defaults=True):
    """A step as JSON, in the shape in which apps post it."""

    seq: int
    time: float
    received_at: float
    inputs: Mapping[str, Any] | None = None
    is_reset: bool = False
    is_eos: bool = False
    model_version: str | None = None
    extra: Mapping[str, Any] = {}
    rejected: Rejection | None = None
    traceparent: str | None = None


_steps = msgspec.json.Decoder(_StepText)
_hidden: dict[str, msgspec.json.Decoder[SessionRecord]] = {
    "opened": msgspec.json.Decoder(SessionOpened),
    "ended": msgspec.json.Decoder(SessionEnded),
    "deleted": msgspec.json.Decoder(SessionDeleted),
    "retried": msgspec.json.Decoder(StepRetried),
}


def sample_entry(sample: Sample, offset: int, index: int) -> Entry:
    """The row of a sample that is number `index` of the record at `offset`."""
    return Entry(offset, index, sample.key, sample.time, sample.members, sample.model_version, sample.traceparent)


def sample_of(entry: Entry) -> Sample:
    """The inverse of `sample_entry`. Raises `SampleRemoved` for one that was deleted."""
    _check_kept(entry)
    session_id, numbers = _split(entry.key)
    seq, _, index = numbers.partition("-")
    return Sample(session_id, int(seq), int(index), entry.time, entry.members, entry.model_version, entry.traceparent)


def record_entries(record: SessionRecord, offset: int) -> list[Entry]:
    """The rows of a record of the topic `steps`: one a step, or one for an opening or an end."""
    if isinstance(record, StepsAppended):
        trace = record.traceparent
        return [_step_entry(step, offset, index, trace) for index, step in enumerate(record.steps)]
    name = str(record.__struct_config__.tag)
    key = f"{HIDDEN}{record.session_id}/{name}"
    return [Entry(offset, 0, key, record.time, {"json": msgspec.json.encode(record)})]


def record_of(entry: Entry) -> SessionRecord:
    """The session record of a row; a step comes back in a `StepsAppended` of its own.

    Raises `SampleRemoved` for one that was deleted.
    """
    _check_kept(entry)
    if entry.hidden:
        return _hidden[entry.key.rpartition("/")[2]].decode(entry.members["json"])
    session_id, _ = _split(entry.key)
    text = _steps.decode(entry.members["json"])
    members = {extension: value for extension, value in entry.members.items() if extension != "json"}
    step = Step(
        session_id=session_id,
        seq=text.seq,
        time=text.time,
        received_at=text.received_at,
        inputs=text.inputs,
        is_reset=text.is_reset,
        is_eos=text.is_eos,
        model_version=text.model_version,
        members=members,
        extra=text.extra,
        rejected=text.rejected,
    )
    return StepsAppended(session_id, (step,), text.traceparent)


def session_of(key: str) -> str:
    """The session that an entry belongs to, hidden or not, by its key."""
    return _split(key.removeprefix(HIDDEN))[0]


def _check_kept(entry: Entry) -> None:
    if entry.removed:
        raise SampleRemoved(f"the entry at offset {entry.offset}, index {entry.index}, was deleted from the archive")


def _step_entry(step: Step, offset: int, index: int, traceparent: str | None) -> Entry:
    if "json" in step.members:
        raise ShardError(
            f"{step.session_id}/{step.seq}: a step has a member `json`, which is the name of the step itself"
        )
    text = _StepText(
        seq=step.seq,
        time=step.time,
        received_at=step.received_at,
        inputs=step.inputs,
        is_reset=step.is_reset,
        is_eos=step.is_eos,
        model_version=step.model_version,
        extra=step.extra,
        rejected=step.rejected,
        traceparent=traceparent,
    )
    members = {"json": msgspec.json.encode(text), **step.members}
    return Entry(offset, index, f"{step.session_id}/{step.seq:06d}", step.received_at, members, step.model_version)


def _split(key: str) -> tuple[str, str]:
    session_id, slash, rest = key.rpartition("/")
    if not slash:
        raise ShardError(f"the key {key!r} names no session; expected session/number")
    return session_id, rest
