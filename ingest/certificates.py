"""What was done about a deletion, and when: the keeper's record of it, hashed, for whoever has to show it.

state of the writer `keeper`     erasure/{deletion}/{session id} → `Erasure`, as it stands
topic `certificates`             the same, appended once the archive is clean of a session, and once the log is
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import msgspec

from ingest.keeper_places import Runs, points_of
from ingest.log import Log
from ingest.types import Point, Position

KEEPER = "keeper"
"""The name of the keeper's writer."""
ERASURE_PREFIX = "erasure/"
FORMAT = 1

TrainedOn = Callable[[Mapping[str, Sequence[Point]]], tuple[str, ...] | None]
"""Names the published versions that had trained on samples at these places, by partition; None where it cannot tell."""


class State(StrEnum):
    """How far a deletion is: hidden from everybody; erased from the archive; forgotten by the log too."""

    PENDING = "pending"
    ERASED = "erased"
    GONE = "gone"


class Rewritten(msgspec.Struct, frozen=True):
    """A shard that held something of a session: what took its place, and how many entries are missing there.

    `at` is when that was published and `removed_at` when the old file was removed; between them it is off the chain, and
    nobody is led to it.
    """

    archive: str
    before: str
    before_sha256: str
    entries: int
    after: str = ""
    after_sha256: str = ""
    at: float | None = None
    removed_at: float | None = None

    @property
    def topic(self) -> str:
        """What the shard holds: steps or samples; of one whose rewriting is only planned nothing is missing yet."""
        return self.before.partition("/")[0] if self.after else ""


class Erasure(msgspec.Struct, frozen=True):
    """What was done about one session. Times in Unix seconds.

    All that it ever put into the log lies below these ends of its partition, by topic; `tombstone` is where its
    deletion stands. `samples_at` is where its samples stood in the topic `samples` (runs: offset, first index, count), by
    which it is told which versions had trained on them. `steps` and `samples` count the entries that the archive has lost
    (openings and ends are steps). `log_gone_by` is when the log's retention by age forgets its copy (None: age is no
    limit), `log_gone_at` when it had.
    """

    deletion: str
    session_id: str
    tombstone: Position
    requested_at: float
    opened_at: float | None = None
    ends: Mapping[str, int] = {}
    shards: tuple[Rewritten, ...] = ()
    steps: int = 0
    samples: int = 0
    samples_at: Runs = ()
    erased_at: float | None = None
    log_gone_by: float | None = None
    log_gone_at: float | None = None
    format: int = FORMAT

    @property
    def state(self) -> State:
        """How far it is."""
        if self.erased_at is None:
            return State.PENDING
        return State.ERASED if self.log_gone_at is None else State.GONE


decode_erasure = msgspec.msgpack.Decoder(Erasure).decode


class Certificate(msgspec.Struct, frozen=True):
    """All that was done about one deletion, session by session; a session that is missing waits for the keeper.

    `versions` are those published ones that had trained on it, or through history may have, where that could be told
    (None: it could not). `sha256`
    is that of the certificate's JSON, keys in order, with an empty `sha256`.
    """

    deletion: str
    sessions: tuple[str, ...]
    requested_at: float
    due_by: float
    state: State
    erasures: tuple[Erasure, ...]
    versions: tuple[str, ...] | None = None
    sha256: str = ""
    format: int = FORMAT

    def sealed(self) -> Certificate:
        """The same, with its sha256."""
        return msgspec.structs.replace(self, sha256=_digest(self))

    def holds(self) -> bool:
        """Whether its sha256 is right."""
        return self.sha256 == _digest(self)


def erasure_key(deletion: str, session_id: str = "") -> str:
    """The keeper's state key of an erasure; without a session the prefix of all of a deletion."""
    return f"{ERASURE_PREFIX}{deletion}/{session_id}"


def certificate_of(
    log: Log,
    deletion: str,
    requested_at: float,
    due_by: float,
    sessions: Sequence[str],
    trained_on: TrainedOn | None = None,
) -> Certificate:
    """The certificate of a deletion as it stands now, sealed.

    Once the archive is clean of it, it lists the versions that `trained_on` names.
    """
    stored = log.writer_state(KEEPER, erasure_key(deletion))
    erasures = tuple(decode_erasure(stored[key]) for key in sorted(stored))
    order = list(State)
    states = [each.state for each in erasures] + [State.PENDING] * (len(sessions) - len(erasures))
    state = min(states, key=order.index) if states else State.GONE
    versions = None if trained_on is None or state is State.PENDING else trained_on(_positions(erasures))
    return Certificate(deletion, tuple(sessions), requested_at, due_by, state, erasures, versions).sealed()


def _positions(erasures: Sequence[Erasure]) -> Mapping[str, Sequence[Point]]:
    positions: dict[str, list[Point]] = {}
    for each in erasures:
        positions.setdefault(str(each.tombstone.partition), []).extend(points_of(each.samples_at))
    return positions


def _digest(certificate: Certificate) -> str:
    unsealed = msgspec.structs.replace(certificate, sha256="")
    return hashlib.sha256(msgspec.json.encode(unsealed, order="sorted")).hexdigest()
