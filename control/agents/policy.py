"""What an agent is: something that looks at a run and says what should be done, with its reason.

A policy decides and nothing else. Whether it may act, how often, and how its commands travel is not its business: see
`guard` and `runner`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from control.agents.observation import Observation
from control.errors import ControlError

if TYPE_CHECKING:
    from control.agents.limits import Limits


class AgentError(ControlError):
    """An agent could not come to a decision: its model did not answer, or answered nonsense. Training goes on."""


@dataclass(frozen=True)
class Action:
    """A command that an agent wants to send."""

    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What an agent wants done, in this order, and why. Without actions: it looked, and nothing is to be done.

    `by` is what its commands carry as their author (`rule:spike`, `llm:o4-mini`, `data:bandit`), `saw` the figures that
    it decided on. `notable`: worth a place in the record although nothing is to be done.
    """

    by: str
    explanation: str
    actions: Sequence[Action] = ()
    saw: Mapping[str, Any] = field(default_factory=dict)
    notable: bool = False


class Policy(Protocol):
    """Decides. Called from one thread; may take as long as it needs, as nobody waits for it."""

    def decide(self, seen: Observation) -> Decision | None:
        """What to do now; None where there was not even anything to look at. Raises `AgentError`.

        It may be asked again about what it has decided already: only `acted` says that it was done.
        """
        ...

    def acted(self, decision: Decision) -> None:
        """All of its actions succeeded."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """A policy that has to know what it did in the lives of its process before this one."""

    def remember(self, saw: Sequence[Mapping[str, Any]]) -> None:
        """The `saw` of each of its decisions of this training that was carried out, oldest first; before the first look."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A policy that plans within its limits, rather than have what it wants refused."""

    def bound(self, limits: Limits) -> None:
        """These hold from now on; before the first look and, from another thread, whenever an operator sets others."""
        ...


class First:
    """Several policies as one: the first that wants something done decides."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = policies

    def decide(self, seen: Observation) -> Decision | None:
        """See `Policy`; without actions, what the last one said."""
        said: Decision | None = None
        for policy in self._policies:
            decision = policy.decide(seen)
            if decision is not None and decision.actions:
                return decision
            said = decision or said
        return said

    def acted(self, decision: Decision) -> None:
        """See `Policy`; each hears of it, and knows its own by `by`."""
        for policy in self._policies:
            policy.acted(decision)
