"""From the bytes of a request to steps: tar in WebDataset layout, or NDJSON, one shape of step in both.

Everything is checked before anything is taken, so that whatever is in the log can be read back and written out again:
strict JSON (no NaN), integers of 64 bits, a bounded depth, member names that webdataset reads.

Where a request is not well-formed, or does not hold the steps that it says, it is refused as a whole. A step whose
`seq` is right and that has a fault of its own is not a reason to refuse its neighbours: it is marked with a `Rejection`,
keeps its place, and becomes a dead letter. A client that wants such a request refused says so (`strict`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec

from ingest.errors import InvalidBody, SchemaViolation
from ingest.problems import STEP_TOO_LARGE, TOO_MANY_STEPS, too_large
from ingest.schemas import SessionSchema
from ingest.sessions import Batch, digest_of
from ingest.settings import GatewaySettings
from ingest.types import Rejection, Step
from ingest.ustar import EXTENSION, Member, archived_size
from ingest.ustar import members as tar_members

TAR = "application/x-tar"
NDJSON = "application/x-ndjson"

JsonObject: TypeAlias = Mapping[str, Any]

MAX_DEPTH = 32
MAX_MEMBERS = 16
MAX_VERSION_LENGTH = 128
MAX_SEQ = 2**53
FRAME_OVERHEAD = 1_024
"""Bytes of a WebSocket message beside its step's: lengths, and the names of its members."""
LATEST_TIME = 1e11
"""Unix seconds, in the year 5138: more are milliseconds."""

MEMBER_NAME = re.compile(rf"(?:\./)?(\d{{1,16}})\.({EXTENSION.pattern})")


class Rules(NamedTuple):
    """What a session's steps are held to: sizes, the app's schema, and whether a fault refuses the whole request."""

    limits: GatewaySettings
    schema: SessionSchema | None = None
    strict: bool = False


class WireStep(msgspec.Struct, frozen=True):
    """A step's text and binary members, as they came; `place` is where, for error pointers."""

    place: str
    text: bytes
    members: Mapping[str, bytes]

    @property
    def size(self) -> int:
        return len(self.text) + (sum(map(len, self.members.values())) if self.members else 0)


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What most steps say: sound, and nothing beyond what the wire knows. Decoding checks it in one go."""

    seq: int
    time: Annotated[float, msgspec.Meta(ge=0, lt=LATEST_TIME)]
    inputs: dict[str, Any] | None = None
    is_reset: bool = False
    is_eos: bool = False
    model_version: Annotated[str, msgspec.Meta(max_length=MAX_VERSION_LENGTH)] | None = None


_plain = msgspec.json.Decoder(_Plain).decode


def read_batch(
    media_type: str,
    body: bytes | bytearray,
    session_id: str,
    first_seq: int,
    rules: Rules,
    traceparent: str | None = None,
) -> Batch:
    """The steps in `body`, which must be `first_seq`, `first_seq + 1`, …; raises `InvalidBody` or a 413 `Problem`."""
    limits = rules.limits
    wire_steps = _from_tar(body, first_seq, limits) if media_type == TAR else _from_lines(bytes(body), limits)
    return batch_of(wire_steps, session_id, first_seq, rules, traceparent)


def batch_of(
    wire_steps: Iterable[WireStep], session_id: str, first_seq: int, rules: Rules, traceparent: str | None = None
) -> Batch:
    """Steps as they came, checked; raises like `read_batch`."""
    limits, received_at = rules.limits, time.time()
    read = _step if rules.schema is not None else _step_without_schema
    steps: list[Step] = []
    digests: list[bytes] = []
    sizes: list[int] = []
    for seq, wire in enumerate(wire_steps, first_seq):
        size = wire.size
        if size > limits.max_step_bytes:
            raise too_large(STEP_TOO_LARGE, f"step {seq} has so many bytes", size, limits.max_step_bytes, seq=seq)
        if steps and steps[-1].is_eos:
            raise SchemaViolation(wire.place, "after-end", "a step follows one with is_eos, which ends the session")
        step, digest = read(wire, session_id, seq, received_at, rules)
        steps.append(step)
        digests.append(digest)
        sizes.append(size)
    if not steps:
        raise InvalidBody("", "empty", "the request has no step")
    return Batch(session_id, first_seq, tuple(steps), tuple(digests), tuple(sizes), traceparent)


def read_object(text: bytes, place: str = "") -> JsonObject:
    """The JSON object in `text`. Its integers may still be of more bits than can be stored: see `storable`."""
    value = _decoded(text, place)
    _check_nesting(value, text, place)
    return value


def _decoded(text: bytes, place: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBody(place, "invalid-json", str(error)) from None
    if not isinstance(value, dict):
        raise SchemaViolation(place, "not-an-object", f"a JSON object is wanted, not {_kind(value)}")
    return value


def _check_nesting(value: JsonObject, text: bytes, place: str) -> None:
    if not _is_flat(text):
        _check_depth(value, place, MAX_DEPTH)


def _is_flat(text: bytes) -> bool:
    """Whether a JSON text cannot be nested too deep; one that is not may still be within the bound."""
    return text.count(b"{") + text.count(b"[") <= MAX_DEPTH


def storable(value: JsonObject, place: str = "") -> JsonObject:
    """`value` itself, if MessagePack can hold its integers."""
    try:
        msgspec.msgpack.encode(value)
    except OverflowError as error:
        raise _too_large(place) from error
    return value


def _from_lines(body: bytes, limits: GatewaySettings) -> Iterator[WireStep]:
    count = body.count(b"\n") + (not body.endswith(b"\n"))
    if count > limits.max_steps:
        raise too_large(TOO_MANY_STEPS, "lines", count, limits.max_steps)
    for number, line in enumerate(body.removesuffix(b"\n").split(b"\n") if body else ()):
        yield WireStep(f"/{number}", line, {})


def _from_tar(body: bytes | bytearray, first_seq: int, limits: GatewaySettings) -> Iterator[WireStep]:
    assembly = Assembly(first_seq)
    for member in tar_members(body, limits.max_steps * MAX_MEMBERS):
        step = assembly.add(member)
        if step is not None:
            yield step
        if assembly.seq - first_seq == limits.max_steps:
            raise too_large(TOO_MANY_STEPS, "steps", None, limits.max_steps)
    step = assembly.finish()
    if step is not None:
        yield step


class Assembly:
    """Puts steps together from the members of a tar, which come in order; raises `InvalidBody` where they do not."""

    def __init__(self, first_seq: int) -> None:
        self.seq = first_seq
        self._parts: dict[str, bytes] = {}

    @property
    def held(self) -> int:
        """Bytes of the tar that wait for the rest of their step."""
        return sum(archived_size(len(content)) for content in self._parts.values())

    def add(self, member: Member) -> WireStep | None:
        """Take a member; returns the step before, if this is the first one of the next."""
        name, content = member
        found, extension = _member_name(name)
        whole = None
        if found != self.seq and found == self.seq + 1 and self._parts:
            whole = self.finish()
        if found != self.seq:
            rule = f"a member of step {self.seq} or {self.seq + 1} is expected here"
            raise InvalidBody(f"/{name}", "out-of-order", rule)
        if extension in self._parts:
            raise InvalidBody(f"/{name}", "duplicate-member", "the archive has this member twice")
        if len(self._parts) == MAX_MEMBERS:
            raise InvalidBody(f"/{name}", "too-many-members", f"a step has at most {MAX_MEMBERS} members")
        self._parts[extension] = content
        return whole

    def finish(self) -> WireStep | None:
        """The step that all members are there of, if there are any."""
        if not self._parts:
            return None
        step = _assembled(self.seq, self._parts)
        self.seq, self._parts = self.seq + 1, {}
        return step


def _member_name(name: str) -> tuple[int, str]:
    match = MEMBER_NAME.fullmatch(name)
    if match is None:
        rule = "members are named <seq>.<extension>, such as 000120.json, in lower case"
        raise InvalidBody("", "invalid-name", f"{name[:100]!r}: {rule}")
    return int(match[1]), match[2]


def _assembled(seq: int, parts: dict[str, bytes]) -> WireStep:
    text = parts.pop("json", None)
    if text is None:
        raise InvalidBody(f"/{seq:06d}.json", "missing-member", f"step {seq} has binary members, but no {seq:06d}.json")
    return WireStep(f"/{seq:06d}.json", bytes(text), parts)


def _step_without_schema(
    wire: WireStep, session_id: str, seq: int, received_at: float, rules: Rules
) -> tuple[Step, bytes]:
    """The same as `_step` where the app has no schema; of a plain step in a third of the time."""
    try:
        said = _plain(wire.text)
        if said.seq == seq and _is_flat(wire.text):
            step = Step(
                session_id,
                seq,
                said.time,
                received_at,
                said.inputs,
                said.is_reset,
                said.is_eos,
                said.model_version,
                wire.members,
            )
            return step, digest_of(step)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        pass  # `_step` finds out what it is
    return _step(wire, session_id, seq, received_at, rules)


def _step(wire: WireStep, session_id: str, seq: int, received_at: float, rules: Rules) -> tuple[Step, bytes]:
    """A step and its digest."""
    fields = _decoded(wire.text, wire.place)
    stated = fields.get("seq")
    if type(stated) is not int or stated != seq:
        raise SchemaViolation(f"{wire.place}/seq", "wrong-seq", f"{seq} is expected here, not {_short(stated)}")
    try:
        step, digest = _sound(wire, fields, session_id, seq, received_at)
    except SchemaViolation as error:
        if rules.strict:
            raise
        rejection = Rejection(error.code, error.detail, error.pointer.removeprefix(wire.place), original=wire.text)
        step = _unsound(wire, fields, session_id, seq, received_at, rejection)
        return step, digest_of(step)
    found = None if rules.schema is None else rules.schema.check(fields)
    if found is None:
        return step, digest
    if rules.strict:
        raise SchemaViolation(wire.place + found.pointer, found.reason, f"{found.detail} (schema {found.schema})")
    return msgspec.structs.replace(step, rejected=found), digest


def _sound(wire: WireStep, said: JsonObject, session_id: str, seq: int, received_at: float) -> tuple[Step, bytes]:
    """The step and its digest, if the wire's own rules are kept."""
    _check_nesting(said, wire.text, wire.place)
    fields = dict(said)
    del fields["seq"]
    step = Step(
        session_id=session_id,
        seq=seq,
        time=_time(fields.pop("time", None), wire.place),
        received_at=received_at,
        inputs=_inputs(fields.pop("inputs", None), wire.place),
        is_reset=_flag(fields, "is_reset", wire.place),
        is_eos=_flag(fields, "is_eos", wire.place),
        model_version=_version(fields.pop("model_version", None), wire.place),
        members=wire.members,
        extra=fields,
    )
    try:
        return step, digest_of(step)
    except OverflowError as error:  # it encodes the step, so it is the first to meet what cannot be stored
        raise _too_large(wire.place) from error


def _unsound(
    wire: WireStep, said: JsonObject, session_id: str, seq: int, received_at: float, rejection: Rejection
) -> Step:
    """A step that breaks them: what can be read of it still counts, where an episode begins and the session ends."""
    return Step(
        session_id=session_id,
        seq=seq,
        time=received_at,
        received_at=received_at,
        is_reset=said.get("is_reset") is True,
        is_eos=said.get("is_eos") is True,
        members=wire.members,
        rejected=rejection,
    )


def _time(value: object, place: str) -> float:
    if type(value) not in (int, float):
        raise SchemaViolation(f"{place}/time", "not-a-number", f"Unix seconds are wanted, not {_kind(value)}")
    assert isinstance(value, (int, float))
    if not 0 <= value < LATEST_TIME:
        raise SchemaViolation(f"{place}/time", "out-of-range", f"{value!r} is not a time in Unix seconds")
    return float(value)


def _inputs(value: object, place: str) -> JsonObject | None:
    if value is not None and not isinstance(value, dict):
        raise SchemaViolation(f"{place}/inputs", "not-an-object", f"an object or null is wanted, not {_kind(value)}")
    return value


def _flag(fields: dict[str, Any], name: str, place: str) -> bool:
    value = fields.pop(name, False)
    if not isinstance(value, bool):
        raise SchemaViolation(f"{place}/{name}", "not-a-boolean", f"true or false is wanted, not {_kind(value)}")
    return value


def _version(value: object, place: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_VERSION_LENGTH:
        rule = f"a string of at most {MAX_VERSION_LENGTH} characters, or null, is wanted"
        raise SchemaViolation(f"{place}/model_version", "not-a-version", f"{rule}, not {_short(value)}")
    return value


def _too_large(place: str) -> SchemaViolation:
    return SchemaViolation(place, "number-too-large", "integers have at most 64 bits; send longer ones as strings")


def _check_depth(value: object, place: str, depth: int) -> None:
    if isinstance(value, (dict, list)):
        if depth == 0:
            raise SchemaViolation(place, "too-deep", f"objects and lists may be nested {MAX_DEPTH} deep")
        for each in value.values() if isinstance(value, dict) else value:
            _check_depth(each, place, depth - 1)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
