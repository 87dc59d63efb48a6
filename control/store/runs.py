"""Reading runs and what belongs to them: branches, checkpoints, versions, followers."""

from __future__ import annotations

import apsw
import msgspec

from control.api import BranchInfo, ChannelInfo, CheckpointInfo, FollowerInfo, LastMetrics, SegmentInfo, VersionInfo
from control.protocol import DesiredState, RunStatus
from control.store import samples
from control.store.rows import fetch


class StoredRun(msgspec.Struct, frozen=True, array_like=True):
    """A run as the events tell it."""

    run: str
    status: RunStatus
    reason: str
    desired: DesiredState
    desired_by: str
    desired_at: float
    revision: int
    numbered: int
    branch: str
    step: int | None
    max_steps: int | None
    created_at: float
    last_event_at: float


def run(connection: apsw.Connection, name: str) -> StoredRun | None:
    """The run of that name."""
    row = connection.execute("SELECT * FROM runs WHERE run = ?", (name,)).fetchone()
    return _run(row) if row else None


def runs(connection: apsw.Connection) -> list[StoredRun]:
    """All runs, those with the newest events first."""
    return [_run(row) for row in connection.execute("SELECT * FROM runs ORDER BY last_event_at DESC")]


def branches(connection: apsw.Connection, name: str) -> tuple[BranchInfo, ...]:
    """The branches of a run in the order in which they began, each with its segments."""
    found: dict[str, list[SegmentInfo]] = {}
    rows = connection.execute("SELECT record FROM segments WHERE run = ? ORDER BY first_seq", (name,))
    for (text,) in rows:
        segment = SegmentInfo.model_validate_json(text)
        found.setdefault(segment.branch, []).append(segment)
    steps: dict[str, int | None] = dict(fetch(connection, "SELECT branch, step FROM branches WHERE run = ?", (name,)))
    branch_of = {segment.segment: branch for branch, segments in found.items() for segment in segments}
    noted = {
        branch: {"title": title, "note": note, "deleted": bool(deleted)}
        for branch, title, note, deleted in fetch(
            connection, "SELECT branch, title, note, deleted FROM branch_notes WHERE run = ?", (name,)
        )
    }
    result = [
        BranchInfo(
            branch=branch,
            **noted.get(branch, {}),
            parent=branch_of.get(segments[0].parent or ""),
            forked_at=segments[0].forked_at,
            time=segments[0].time,
            step=steps.get(branch),
            segments=tuple(segments),
        )
        for branch, segments in found.items()
    ]
    result += [  # trainers that know no segments still have a branch
        BranchInfo(branch=branch, time=0.0, step=step, segments=(), **noted.get(branch, {}))
        for branch, step in steps.items()
        if branch not in found
    ]
    return tuple(result)


def checkpoints(connection: apsw.Connection, name: str) -> tuple[CheckpointInfo, ...]:
    """The checkpoints of a run that were not deleted, oldest first."""
    rows = connection.execute("SELECT record FROM checkpoints WHERE run = ? ORDER BY time", (name,))
    return tuple(CheckpointInfo.model_validate_json(text) for (text,) in rows)


def versions(connection: apsw.Connection, name: str | None, limit: int) -> tuple[VersionInfo, ...]:
    """Versions, newest first, each with the channels that point at it now."""
    pointing: dict[tuple[str, int], list[str]] = {}
    for channel in channels(connection, name):
        pointing.setdefault((channel.run, channel.version), []).append(channel.channel)
    where, values = ("WHERE run = ?", (name,)) if name is not None else ("", ())
    rows = connection.execute(
        f"SELECT record FROM versions {where} ORDER BY version DESC, run LIMIT ?", (*values, limit)
    )
    found = [VersionInfo.model_validate_json(text) for (text,) in rows]
    shown = samples.by_version(connection, name)
    return tuple(
        version.model_copy(
            update={
                "channels": tuple(pointing.get((version.run, version.version), ())),
                "samples": shown.get((version.run, version.version), ()),
            }
        )
        for version in found
    )


def version(connection: apsw.Connection, name: str, number: int) -> VersionInfo | None:
    """One version of a run, as it was told of."""
    found = connection.execute("SELECT record FROM versions WHERE run = ? AND version = ?", (name, number)).get
    return None if found is None else VersionInfo.model_validate_json(found)


def channels(connection: apsw.Connection, name: str | None) -> tuple[ChannelInfo, ...]:
    """The channels of a run, or of all."""
    rows = connection.execute("SELECT run, channel, version, time, held FROM channels ORDER BY run, channel")
    return tuple(
        ChannelInfo(run=run, channel=channel, version=version, time=time, held=bool(held))
        for run, channel, version, time, held in rows
        if name is None or run == name
    )


def followers(connection: apsw.Connection, name: str | None) -> tuple[FollowerInfo, ...]:
    """The followers of a run, or of all."""
    rows = connection.execute("SELECT run, record FROM followers ORDER BY run, follower")
    return tuple(FollowerInfo.model_validate_json(text) for run, text in rows if name is None or run == name)


def metric_names(connection: apsw.Connection, name: str) -> tuple[str, ...]:
    """Every metric that the run ever reported, by name."""
    rows = connection.execute("SELECT name FROM metrics WHERE run = ? ORDER BY name", (name,))
    return tuple(found for (found,) in rows)


def last_metrics(connection: apsw.Connection, name: str) -> LastMetrics | None:
    """The newest value of each metric of a run, and where the newest of them was reported."""
    rows = fetch(connection, "SELECT name, value, step, time, branch FROM metrics WHERE run = ?", (name,))
    if not rows:
        return None
    _, _, step, time, branch = max(rows, key=lambda row: row[3])
    return LastMetrics(step=step, time=time, branch=branch, values={row[0]: row[1] for row in rows})


def _run(row: tuple[object, ...]) -> StoredRun:
    return msgspec.convert(row, StoredRun)
