"""A scripted agent: what somebody who knows the run would do, written down by step. Also how an expert is replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from control.agents.observation import Observation
from control.agents.policy import Action, Decision


class Line(BaseModel):
    """From `step` on, once: a command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = Field(ge=0)
    command: str
    arguments: Mapping[str, Any] = {}
    why: str = ""


class Script:
    """Sends each line once, when its step has come; a line that was due before is not sent late twice."""

    def __init__(self, lines: Iterable[Line], by: str = "script:expert") -> None:
        self._lines = sorted(lines, key=lambda line: line.step)
        self._by = by
        self._next = 0

    def decide(self, seen: Observation) -> Decision | None:
        """See `Policy`."""
        due = self._lines[self._next : self._due(seen.step)]
        if not due:
            return None
        why = "; ".join(line.why or f"{line.command} is due at step {line.step}" for line in due)
        return Decision(self._by, why, [Action(line.command, line.arguments) for line in due], {"step": seen.step})

    def acted(self, decision: Decision) -> None:
        """See `Policy`."""
        self._next = max(self._next, self._due(decision.saw["step"]))

    def _due(self, step: int) -> int:
        return sum(1 for line in self._lines if line.step <= step)
