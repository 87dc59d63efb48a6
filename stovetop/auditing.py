"""`stovetop audit VERSION`: where served weights come from, read from signed manifests and the record of commands.
`stovetop audit SESSION`: which versions have trained on what a visitor did.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import cast

from rich.console import Console
from rich.table import Table

from control.api import AuditEntry
from ingest import SAMPLES
from ingest.keeper_places import points_of, samples_in_log
from ingest.log import partition_of
from ingest.shard_reader import ShardChain
from publish import Gate, PublishError, TrustedKeys
from publish.gate import Decision
from publish.lineage import Link, lineage
from publish.places import followers_hub
from publish.trained import Asked, Numbered, Positions, Record
from stovetop.doors import Doors
from stovetop.errors import StovetopError
from stovetop.settings import Settings


def links_of(settings: Settings, version: int) -> Sequence[Link]:
    """The version and its parents. Raises StovetopError where one is missing, or was not signed by a trusted key."""
    keys = TrustedKeys(settings.follow.trusted_keys or (Doors.read(settings).public_key,))
    try:
        return list(lineage(followers_hub(settings.follow), version, keys))
    except PublishError as error:
        raise StovetopError(str(error)) from error


def positions_of(settings: Settings, session_id: str) -> Positions:
    """Where the session's samples stand, by the archive and, beyond it, by the log."""
    reader, store = settings.log.open().reader(), settings.archive.open()
    try:
        partition = partition_of(session_id, max(1, reader.partitions(SAMPLES)))
        chain = ShardChain(store, SAMPLES, partition)
        points = {(entry.offset, entry.index) for entry in chain.entries() if entry.key.startswith(f"{session_id}/")}
        logged = samples_in_log(reader, partition, {session_id}, 0.0, reader.bounds(SAMPLES, partition).end)
        points.update(points_of(logged.get(session_id, ())))
    finally:
        reader.close()
    return {str(partition): sorted(points)}


def trained_on(settings: Settings, session_id: str) -> tuple[int, Record]:
    """How many samples the session has, and the versions that have trained on them. Raises StovetopError."""
    positions = positions_of(settings, session_id)
    count = sum(map(len, positions.values()))
    if not count:
        raise StovetopError(f"session {session_id!r}: neither the log nor the archive holds a sample of it")
    return count, record_of(settings, positions)


def record_of(settings: Settings, positions: Positions, asked: Asked | None = None) -> Record:
    """The versions that have trained on the samples at these places; `asked` remembers. Raises StovetopError."""
    keys = TrustedKeys(settings.follow.trusted_keys or (Doors.read(settings).public_key,))
    hub = cast(Numbered, followers_hub(settings.follow))  # every kind has numbers
    try:
        return (asked or Asked()).versions_trained_on(hub, keys, positions)
    except PublishError as error:
        raise StovetopError(str(error)) from error


def show_session(session_id: str, count: int, record: Record, console: Console) -> None:
    """Print it, the first version first."""
    console.print(f"session {session_id}: {count} samples", highlight=False, soft_wrap=True)
    table = Table("version", "segment", "step", "trained on", "perhaps besides, through history")
    for trained in record.versions:
        table.add_row(
            trained.label, trained.segment, str(trained.step), str(trained.certain), str(trained.possible or "")
        )
    console.print(table if record.versions else "no version has trained on it")
    if record.unknown:
        numbers = ", ".join(f"{number:06d}" for number in record.unknown)
        console.print(f"nothing can be said of {numbers}: no trusted key signed them, or they cannot be read")


def show(settings: Settings, links: Sequence[Link], commands: Sequence[AuditEntry], console: Console) -> None:
    """Print it, the version itself first; `commands` are shown with the version that they led to."""
    table = Table("version", "when", "branch", "step", "trained on since its parent", "commands", "gate")
    gate = Gate(settings.gate, settings.judged, followers_hub(settings.follow)) if settings.judged.exists() else None
    for number, link in enumerate(links):
        manifest = link.manifest
        since = links[number + 1].manifest.created_at if number + 1 < len(links) else 0.0
        led = [entry for entry in commands if since < entry.time <= manifest.created_at]
        table.add_row(
            manifest.label,
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.created_at)),
            manifest.branch,
            str(manifest.step),
            "\n".join(
                f"{part.source} {part.partition} {_point(part.begin)} → {_point(part.end)}" for part in link.stretches
            ),
            "\n".join(f"{entry.author}: {entry.command} {json.dumps(entry.arguments)}" for entry in led),
            _decided(gate.decision(manifest.version) if gate else None),
        )
    console.print(table)
    console.print(f"version {links[0].manifest.label}: manifest {links[0].digest}", highlight=False, soft_wrap=True)


def _point(point: tuple[int, int]) -> str:
    offset, index = point
    return f"{offset}" if index == 0 else f"{offset}.{index}"


def _decided(decision: Decision | None) -> str:
    if decision is None:
        return ""
    return "passed" if decision.passed else f"refused: {decision.reason}"
