"""Puts together what is shown of a run: what the events tell, who is connected, and what the actors said last."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from control.api import ActorCommand, ModelTree, RunDetail, RunList, RunSummary
from control.bodies import MixtureBody, StateKey
from control.protocol import Body, EventType, RunStatus
from control.server.intake import CONTROL, START
from control.server.roster import Roster
from control.server.switchboard import Switchboard
from control.store import EventFilter, events
from control.store import runs as stored

PIPELINE_EVENTS = 200


class Overview:
    """Looks at the switchboard and the store from the server's loop."""

    def __init__(self, switchboard: Switchboard) -> None:
        self._roster: Roster = switchboard.roster
        self._store = switchboard.journal.store

    def runs(self) -> RunList:
        """All runs, those with the newest events first."""
        return RunList(runs=tuple(RunSummary(**self._summary(run)) for run in stored.runs(self._store.connection)))

    def run(self, name: str) -> RunDetail | None:
        """Everything about one run; None where there is none of that name."""
        connection = self._store.connection
        found = stored.run(connection, name)
        if found is None:
            return None
        state = self._state(name)
        state.pop(StateKey.MODEL, None)
        return RunDetail(
            **self._summary(found),
            seq=self._store.last_seq,
            commands=self._commands(name),
            branches=stored.branches(connection, name),
            checkpoints=stored.checkpoints(connection, name),
            mixture=self._mixture(name, state),
            optimizer=_mapping(state.get(StateKey.OPTIMIZER)),
            state=state,
            metrics=stored.last_metrics(connection, name),
            metric_names=stored.metric_names(connection, name),
            pipeline=self._pipeline(name),
        )

    def model(self, name: str) -> ModelTree:
        """The model's layers, None where no trainer described them."""
        model = self._state(name).get(StateKey.MODEL)
        return ModelTree(run=name, model=model if isinstance(model, dict) else None)

    def status(self, run: stored.StoredRun) -> RunStatus:
        """What the run does: its trainer's word, or that the trainer is away."""
        trainer = self._roster.trainer(run.run)
        if run.status.over or (trainer is not None and trainer.link is not None):
            return run.status
        return RunStatus.DISCONNECTED

    def _summary(self, run: stored.StoredRun) -> dict[str, Any]:
        seats = self._roster.of(run.run)
        return {
            "run": run.run,
            "status": self.status(run),
            "reason": run.reason,
            "desired": run.desired,
            "revision": run.revision,
            "branch": run.branch,
            "step": run.step,
            "max_steps": run.max_steps,
            "created_at": run.created_at,
            "last_event_at": run.last_event_at,
            "actors": tuple(seat.actor.info() for seat in seats),
        }

    def _state(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for seat in self._roster.of(name):
            state.update(seat.actor.state)
        return state

    def _commands(self, name: str) -> tuple[ActorCommand, ...]:
        theirs = tuple(
            ActorCommand(actor=seat.actor.actor, available=seat.link is not None, spec=spec)
            for seat in self._roster.of(name)
            for spec in seat.actor.commands
        )
        return (*theirs, ActorCommand(actor=CONTROL, available=True, spec=START))

    def _mixture(self, name: str, state: Body) -> MixtureBody | None:
        told = events.newest(self._store.connection, EventFilter(run=name, types=(EventType.MIXTURE,)), 1)
        for candidate in (told[0].body if told else None, state.get(StateKey.MIXTURE)):
            try:
                return MixtureBody.model_validate(candidate)
            except ValidationError:
                continue
        return None

    def _pipeline(self, name: str) -> dict[str, Body]:
        newest = events.newest(
            self._store.connection, EventFilter(run=name, types=(EventType.PIPELINE,)), PIPELINE_EVENTS
        )
        return {str(event.body.get("component", "")): event.body for event in newest}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
