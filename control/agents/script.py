"""A scripted agent: what somebody who knows the run would do, written down by step. Also how an expert is replayed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    """Sends each line once, when its step has come, one at a look; also where its process is started anew."""

    def __init__(self, lines: Iterable[Line], by: str = "script:expert") -> None:
        self._lines = sorted(lines, key=lambda line: line.step)
        self._by = by
        self._done: Counter[str] = Counter()

    def decide(self, seen: Observation) -> Decision | None:
        """See `Policy`."""
        done = self._done.copy()
        for line in self._lines:
            if line.step > seen.step:
                return None
            if done[_name(line)]:
                done[_name(line)] -= 1
                continue
            why = line.why or f"{line.command} is due at step {line.step}"
            saw = {"step": seen.step, "line": _name(line)}
            return Decision(self._by, why, [Action(line.command, line.arguments)], saw)
        return None

    def acted(self, decision: Decision) -> None:
        """See `Policy`."""
        self._done[decision.saw["line"]] += 1

    def remember(self, saw: Sequence[Mapping[str, Any]]) -> None:
        """See `Remembers`."""
        self._done = Counter(each["line"] for each in saw if isinstance(each.get("line"), str))


def _name(line: Line) -> str:
    """A line as it is found again in the record; `why` may be put into better words."""
    return json.dumps([line.step, line.command, dict(line.arguments)], sort_keys=True)
