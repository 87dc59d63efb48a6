"""What a run's links are judged by, and the shapes that they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control.api import ChannelInfo, VersionInfo
from control.server.beats import Beat, Heard
from control.server.processes import Processes, Trouble
from control.server.roster import Seat
from control.store.runs import StoredRun
from control.way import Flow, LinkInfo, LinkName

LATE = 60.0
"""Seconds of lag from which a link counts as behind."""


@dataclass(frozen=True)
class Sight:
    """Everything that the links are judged by."""

    run: StoredRun
    heard: Heard
    processes: Processes
    trainer: Seat | None
    publisher: Seat | None
    channels: tuple[ChannelInfo, ...]
    newest: VersionInfo | None

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self.processes.now


def unheard(sight: Sight, name: LinkName, role: str, what: str, beat: Beat | None) -> LinkInfo | None:
    """The link where its part is absent, starting, or in trouble; None where it lives."""
    if beat is None and sight.processes.get(role) is None:
        return absent(name)
    trouble = sight.processes.trouble(role, what, said_at(beat))
    if trouble is not None:
        return broken(LinkInfo(link=name, flow=Flow.BROKEN, heard_at=said_at(beat)), trouble)
    return LinkInfo(link=name, flow=Flow.IDLE, note="starting") if beat is None else None


def flowing(
    name: LinkName,
    beat: Beat | None,
    rate: float | None,
    unit: str,
    lag: object = None,
    lag_unit: str = "",
    note: str = "",
) -> LinkInfo:
    """A link that works: it flows where it has a rate."""
    return LinkInfo(
        link=name,
        flow=Flow.FLOWS if rate else Flow.IDLE,
        rate=rate,
        unit=unit,
        lag=float(lag) if isinstance(lag, (int, float)) else None,
        lag_unit=lag_unit,
        heard_at=said_at(beat),
        note=note,
    )


def late(shown: LinkInfo, problem: str, advice: str) -> LinkInfo:
    """The link, behind where its lag is too long."""
    if shown.lag is None or shown.lag <= LATE:
        return shown
    words = f"{problem}: {shown.lag:.0f} s."
    return shown.model_copy(update={"flow": Flow.BEHIND, "problem": words, "advice": advice})


def broken(shown: LinkInfo, trouble: Trouble) -> LinkInfo:
    """The link, broken, with why and what to do."""
    changed = {"flow": Flow.BROKEN, "rate": None, "problem": trouble.problem, "advice": trouble.advice}
    return shown.model_copy(update=changed)


def absent(name: LinkName) -> LinkInfo:
    """A link that is no part of the run."""
    return LinkInfo(link=name, flow=Flow.ABSENT)


def said_at(beat: Beat | None) -> float | None:
    """When it was said; None where nothing was."""
    return None if beat is None else beat.at


def content(beat: Beat | None) -> Mapping[str, Any]:
    """What was said; empty where nothing was."""
    return {} if beat is None else beat.body


def part(value: object) -> Mapping[str, Any]:
    """A part of what was said, where it is an object."""
    return value if isinstance(value, Mapping) else {}


def counted(number: object, what: str) -> str:
    """A number of things, in words; nothing where there is none."""
    if not isinstance(number, (int, float)):
        return ""
    return f"{number:,.0f} {what}{'' if number == 1 else 's'}"
