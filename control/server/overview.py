"""Puts together what is shown of a run: what the events tell, who is connected, and what the actors said last."""

from __future__ import annotations

from typing import Any

import apsw
from pydantic import ValidationError

from control.api import ActorCommand, ModelTree, RunDetail, RunList, RunSummary
from control.bodies import MixtureBody, StateKey
from control.protocol import Body, EventType, RunStatus
from control.server.beats import Beats
from control.server.intake import CONTROL, OWN
from control.server.links import links, publisher_of
from control.server.processes import SUPERVISOR, Processes
from control.server.roster import Roster
from control.server.sight import Sight
from control.store import EventFilter, events
from control.store import runs as stored
from control.store.readers import Readers
from control.way import WayInfo

PIPELINE_EVENTS = 200


class Overview:
    """Looks at the roster and the store, from any thread and without waiting for what is being written."""

    def __init__(self, roster: Roster, readers: Readers, beats: Beats) -> None:
        self._roster, self._readers, self._beats = roster, readers, beats

    def runs(self) -> RunList:
        """All runs, those with the newest events first."""
        found = stored.runs(self._readers.connection())
        return RunList(runs=tuple(RunSummary(**self._summary(run)) for run in found))

    def run(self, name: str) -> RunDetail | None:
        """Everything about one run; None where there is none of that name."""
        state = self._state(name)
        state.pop(StateKey.MODEL, None)
        detail = None
        with self._readers.connection() as connection:  # one view of all tables, that of `seq`
            found = stored.run(connection, name)
            if found is not None:
                detail = RunDetail(
                    **self._summary(found),
                    seq=events.last_seq(connection),
                    commands=self._commands(name),
                    branches=stored.branches(connection, name),
                    checkpoints=stored.checkpoints(connection, name),
                    mixture=_mixture(connection, name, state),
                    optimizer=_mapping(state.get(StateKey.OPTIMIZER)),
                    state=state,
                    metrics=stored.last_metrics(connection, name),
                    metric_names=stored.metric_names(connection, name),
                    pipeline=_pipeline(connection, name),
                )
        return detail

    def model(self, name: str) -> ModelTree:
        """The model's layers, None where no trainer described them."""
        model = self._state(name).get(StateKey.MODEL)
        return ModelTree(run=name, model=model if isinstance(model, dict) else None)

    def way(self, name: str) -> WayInfo | None:
        """The way of one click of a run, as it stands now; None where there is no such run."""
        connection = self._readers.connection()
        found = stored.run(connection, name)
        if found is None:
            return None
        heard, now = self._beats.of(name), self._beats.now()
        sight = Sight(
            run=found,
            heard=heard,
            processes=Processes(heard.reports.get(SUPERVISOR), now, self._beats.started),
            trainer=self._roster.trainer(name),
            publisher=publisher_of(self._roster.of(name)),
            channels=stored.channels(connection, name),
            newest=next((v for v in stored.versions(connection, name, 20) if v.action != "refused"), None),
        )
        return WayInfo(run=name, time=now, links=links(sight))

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
        return (*theirs, *(ActorCommand(actor=CONTROL, available=True, spec=spec) for spec in OWN))


def _mixture(connection: apsw.Connection, name: str, state: Body) -> MixtureBody | None:
    told = events.newest(connection, EventFilter(run=name, types=(EventType.MIXTURE,)), 1)
    for candidate in (told[0].body if told else None, state.get(StateKey.MIXTURE)):
        try:
            return MixtureBody.model_validate(candidate)
        except ValidationError:
            continue
    return None


def _pipeline(connection: apsw.Connection, name: str) -> dict[str, Body]:
    newest = events.newest(connection, EventFilter(run=name, types=(EventType.PIPELINE,)), PIPELINE_EVENTS)
    return {str(event.body.get("component", "")): event.body for event in newest}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
