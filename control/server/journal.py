"""Writes down what happened, then shows it: nobody sees an event that a crash could take back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from control.bodies import ActorBody, DesiredBody, LogBody, body
from control.protocol import DesiredState, Event, EventType
from control.store import Heard, Store, StoredActor
from control.store.samples import Samples

Level: TypeAlias = Literal["info", "warning", "error"]


class Journal:
    """The store and those who watch, as one: everything that the server records passes here."""

    def __init__(
        self, store: Store, show: Callable[[Sequence[Event]], None], clock: Callable[[], float] = time.time
    ) -> None:
        self.store, self._show, self.clock = store, show, clock

    def write(
        self,
        events: Sequence[Event],
        *,
        actor: StoredActor | None = None,
        heard: Heard | None = None,
        samples: Samples | None = None,
    ) -> list[Event]:
        """Store the events in one transaction and show them."""
        stored = self.store.append(events, actor=actor, heard=heard, samples=samples)
        self._show(stored)
        return stored

    def line(self, run: str, message: str, level: Level = "info") -> Event:
        """A line for people, not yet written."""
        return self.event(run, EventType.LOG, body(LogBody(message=message)), level=level)

    def desired(self, run: str, state: DesiredState, author: str) -> Event:
        """What people want of a run, not yet written."""
        return self.event(run, EventType.RUN, body(DesiredBody(desired=state, author=author)))

    def actor(self, actor: StoredActor, action: Literal["connected", "gone"], reason: str = "") -> Event:
        """An actor's coming or going, not yet written."""
        told = ActorBody(actor=actor.actor, kind=actor.kind, action=action, instance=actor.instance, reason=reason)
        return self.event(actor.run, EventType.ACTOR, body(told))

    def event(
        self,
        run: str,
        kind: EventType,
        content: dict[str, Any],
        *,
        level: Level = "info",
        branch: str = "main",
        step: int | None = None,
    ) -> Event:
        """An event of the server's own, not yet written."""
        return Event(time=self.clock(), run=run, type=kind, level=level, branch=branch, step=step, body=content)
