"""`stovetop audit VERSION`: where served weights come from, read from signed manifests and the record of commands."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from control.api import AuditEntry
from publish import Gate, PublishError, TrustedKeys
from publish.gate import Decision
from publish.lineage import Link, lineage
from publish.places import followers_hub
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
