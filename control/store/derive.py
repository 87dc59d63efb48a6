"""What the tables learn from an event. Nothing else writes them, so all of them can be made again from the events."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import apsw
from pydantic import ValidationError

from control.api import CheckpointInfo, CommandRecord, FollowerInfo, SegmentInfo, VersionInfo
from control.bodies import (
    BranchBody,
    BranchDescribedBody,
    CheckpointBody,
    DesiredBody,
    FollowerBody,
    RunBody,
    VersionBody,
)
from control.protocol import Event, EventType, Outcome
from control.store.rows import dump

logger = logging.getLogger(__name__)

MAX_METRIC_NAMES = 2000
"""A run with more names than this has a bug (a step or a key in the name); later ones are kept in events only."""


class Tables:
    """The tables beside the events. `learn` runs inside the transaction that stores the event."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._names: dict[str, set[str]] = {}
        self._learners = {
            EventType.RUN: self._run,
            EventType.COMMAND: self._command,
            EventType.BRANCH: self._branch,
            EventType.METRICS: self._metrics,
            EventType.EVALUATION: self._metrics,
            EventType.CHECKPOINT: self._checkpoint,
            EventType.VERSION: self._version,
            EventType.FOLLOWER: self._follower,
        }

    def forget(self) -> None:
        """Drop what is remembered of the tables; call it when a transaction was rolled back."""
        self._names.clear()

    def learn(self, event: Event) -> None:
        """Bring the tables up to `event`. A body that is not of its type's shape is left to the record alone."""
        if event.run:
            self._connection.execute(
                "INSERT INTO runs VALUES (?1, 'starting', '', 'running', '', ?2, 0, 0, ?3, NULL, NULL, ?2, ?2) "
                "ON CONFLICT (run) DO UPDATE SET last_event_at = max(last_event_at, ?2)",
                (event.run, event.time, event.branch),
            )
        learner = self._learners.get(event.type)
        if learner is None:
            return
        try:
            learner(event)
        except ValidationError as error:
            logger.warning("event %d (%s of %s) is not of its shape: %s", event.seq, event.type, event.run, error)

    def _run(self, event: Event) -> None:
        if "desired" in event.body:
            wanted = DesiredBody.model_validate(event.body)
            self._connection.execute(
                "UPDATE runs SET desired = ?, desired_by = ?, desired_at = ? WHERE run = ?",
                (wanted.desired.value, wanted.author, event.time, event.run),
            )
            return
        told = RunBody.model_validate(event.body)
        self._connection.execute(
            "UPDATE runs SET status = ?, reason = ?, max_steps = ? WHERE run = ?",
            (told.status.value, told.reason, told.max_steps, event.run),
        )

    def _command(self, event: Event) -> None:
        record = CommandRecord.model_validate(event.body)
        outcome = record.outcome.value if record.outcome else None
        self._connection.execute(
            "INSERT INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (uuid) DO UPDATE SET outcome = excluded.outcome, record = excluded.record",
            (
                record.uuid,
                record.client_uuid,
                record.run,
                record.number,
                record.received_at,
                event.seq,
                outcome,
                dump(record),
            ),
        )
        revision = record.number if record.outcome is Outcome.SUCCESS and not record.dry_run else 0
        self._connection.execute(
            "UPDATE runs SET numbered = max(numbered, ?), revision = max(revision, ?) WHERE run = ?",
            (record.number, revision, record.run),
        )

    def _branch(self, event: Event) -> None:
        action = event.body.get("action", "began")
        if action == "described":
            described = BranchDescribedBody.model_validate(event.body)
            self._connection.execute(
                "INSERT INTO branch_notes (run, branch, title, note) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (run, branch) DO UPDATE SET title = excluded.title, note = excluded.note",
                (event.run, event.branch, described.title, described.note),
            )
            return
        if action == "deleted":
            self._connection.execute(
                "INSERT INTO branch_notes (run, branch, deleted) VALUES (?, ?, 1) "
                "ON CONFLICT (run, branch) DO UPDATE SET deleted = 1",
                (event.run, event.branch),
            )
            return
        told = BranchBody.model_validate(event.body)
        record = SegmentInfo(
            segment=told.segment,
            branch=event.branch,
            parent=told.parent,
            forked_at=told.forked_at,
            checkpoint=told.checkpoint,
            parent_run=told.parent_run,
            reason=told.reason,
            note=told.note,
            time=event.time,
            first_seq=event.seq,
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?)",
            (event.run, told.segment, event.branch, event.seq, dump(record)),
        )
        self._reached(event, told.forked_at or 0)

    def _metrics(self, event: Event) -> None:
        known = self._names.get(event.run)
        if known is None:
            rows = self._connection.execute("SELECT name FROM metrics WHERE run = ?", (event.run,))
            known = self._names[event.run] = {name for (name,) in rows}
        for name, value in event.body.items():
            if not isinstance(value, (int, float, type(None))) or (
                name not in known and len(known) >= MAX_METRIC_NAMES
            ):
                continue
            known.add(name)
            self._connection.execute(
                "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
                (event.run, name, value, event.step, event.time, event.branch),
            )
        if event.step is not None:
            self._reached(event, event.step)

    def _reached(self, event: Event, step: int) -> None:
        self._connection.execute("UPDATE runs SET branch = ?, step = ? WHERE run = ?", (event.branch, step, event.run))
        self._connection.execute("INSERT OR REPLACE INTO branches VALUES (?, ?, ?)", (event.run, event.branch, step))

    def _checkpoint(self, event: Event) -> None:
        told = CheckpointBody.model_validate(event.body)
        if told.action == "deleted":
            self._connection.execute("DELETE FROM checkpoints WHERE run = ? AND uuid = ?", (event.run, told.uuid))
            return
        record = CheckpointInfo(
            uuid=told.uuid,
            run=event.run,
            branch=event.branch,
            segment=told.segment,
            step=event.step,
            time=event.time,
            path=told.path,
            bytes=told.bytes,
            revision=told.revision,
            reason=told.reason,
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)", (event.run, told.uuid, event.time, dump(record))
        )

    def _version(self, event: Event) -> None:
        told = VersionBody.model_validate(event.body)
        if told.channel is not None and told.action != "refused":
            self._connection.execute(
                "INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?, ?)",
                (event.run, told.channel, told.version, event.time, told.held),
            )
        if told.action == "deleted":
            self._connection.execute("DELETE FROM versions WHERE run = ? AND version = ?", (event.run, told.version))
        if told.action not in ("published", "refused"):
            return
        record = VersionInfo(
            run=event.run,
            version=told.version,
            branch=event.branch,
            segment=told.segment,
            step=event.step,
            time=event.time,
            action=told.action,
            reason=told.reason,
            bytes=told.bytes,
            parent=told.parent,
            evaluation=_numbers(told.evaluation),
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", (event.run, told.version, dump(record))
        )

    def _follower(self, event: Event) -> None:
        told = FollowerBody.model_validate(event.body)
        record = FollowerInfo(
            run=event.run,
            follower=told.follower,
            version=told.version,
            channel=told.channel,
            time=event.time,
            loaded_at=told.loaded_at,
            error=told.error,
            lag_seconds=told.lag_seconds,
            swaps=told.swaps,
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO followers VALUES (?, ?, ?, ?)", (event.run, told.follower, event.time, dump(record))
        )


def _numbers(figures: Mapping[str, object]) -> dict[str, float]:
    """The finite numbers among them."""
    return {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
