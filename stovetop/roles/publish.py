"""The publisher's process: entries of the outbox go to the hub, and operators move channels."""

from __future__ import annotations

import logging
from typing import Any, Literal

from control import ActorConnection, ActorKind, EventType
from control.bodies import LogBody, VersionBody
from ingest.plugins import load_plugin
from publish import (
    Coalesced,
    Decision,
    Failed,
    Gate,
    Hub,
    Judged,
    Moved,
    Outbox,
    Published,
    Publisher,
    PublisherEvent,
    Recalls,
    Retired,
    SigningKey,
    older_keys,
)
from publish.crew import be_nice
from publish.places import publishers_hub
from stovetop.errors import ConfigurationError
from stovetop.moves import Moves, specs
from stovetop.play import stop_on_signals
from stovetop.reporting import control_url
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings

LOOK = 0.02
"""Seconds between two looks at the outbox while commands are waited for."""

logger = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Publish until told to stop, behind training and serving."""
    be_nice()
    stop = stop_on_signals()
    chosen = settings.publish
    outbox = Outbox(chosen.outbox)
    connection = ActorConnection(
        control_url(settings),
        local_token(settings, Holder.ROLES),
        run=settings.run,
        actor="publisher",
        kind=ActorKind.PUBLISHER,
        commands=specs(),
    )
    hub = publishers_hub(chosen)
    publisher = Publisher(
        hub,
        outbox,
        SigningKey.load_or_create(chosen.key),
        keep=chosen.keep,
        tell=lambda event: _tell(connection, event),
        longest_wait=chosen.longest_wait,
        older_keys=older_keys(chosen.key),
        deltas=chosen.deltas,
        gate=_gate(settings, hub),
    )
    moves = Moves(publisher, Recalls(settings.gate.alarms, settings.recalled, publisher.channels))
    connection.start()
    with outbox.served():
        while not stop.is_set():
            wait = publisher.step()
            for delivery in connection.wait(min(wait, 1.0) or LOOK):
                connection.report(moves.obey(delivery))
    connection.close("the publisher stops")


def _gate(settings: Settings, hub: Hub) -> Gate | None:
    if not settings.gate.enabled:
        return None
    evaluate = load_plugin(settings.app.evaluation) if settings.app.evaluation else None
    if settings.gate.app and evaluate is None:
        raise ConfigurationError("gate.app has rules, but app.evaluation is not set; name what measures as module:name")
    return Gate(settings.gate, settings.judged, hub, evaluate)


def _tell(connection: ActorConnection, event: PublisherEvent) -> None:
    match event:
        case Published(ticket=ticket, manifest=manifest):
            connection.tell(
                EventType.VERSION,
                VersionBody(
                    version=manifest.version,
                    action="published",
                    channel=ticket.channel if event.moved is not None else None,
                    segment=manifest.segment,
                    bytes=sum(digest.size for digest in manifest.files.values()),
                    seconds=event.seconds,
                    parent=manifest.parent,
                    evaluation=dict(manifest.evaluation),
                    reason=f"step {manifest.step}" + (" (again)" if event.repeated else ""),
                ),
                branch=manifest.branch,
                step=manifest.step,
            )
        case Moved(pointer=pointer) if pointer.moved_by != "publisher":  # its own moves are told as published
            connection.tell(EventType.VERSION, _moved(event))
        case Judged(decision=decision) if not decision.passed:
            body = VersionBody(version=decision.version, action="refused", reason=decision.reason, **_figures(decision))
            connection.tell(EventType.VERSION, body, level="warning")
        case Judged(decision=decision, moved=Moved() as moved):
            connection.tell(EventType.VERSION, _moved(moved, **_figures(decision)))
        case Judged(decision=decision):
            message = f"version {decision.version:06d} passed the gate; its channel is held, or waits for a person"
            logger.info("%s", message)
            connection.tell(EventType.LOG, LogBody(message=message, **_figures(decision)))
        case Coalesced(ticket=ticket, newer=newer):
            _say(connection, f"the weights of step {ticket.step} gave way to those of step {newer.step}")
        case Failed(ticket=ticket):
            _say(connection, f"step {ticket.step} is not published, attempt {event.attempt}: {event.error}", "warning")
        case Retired(versions=versions):
            _say(connection, "files of old versions were deleted: " + ", ".join(f"{number:06d}" for number in versions))
        case _:
            pass


def _figures(decision: Decision) -> dict[str, Any]:
    """What the gate judged by, for the record: figures by check."""
    return {"figures": {check.name: dict(check.figures) for check in decision.checks}}


def _moved(moved: Moved, **more: Any) -> VersionBody:
    pointer = moved.pointer
    action: Any = "pinned" if pointer.held else "promoted"
    if moved.before is not None and pointer.version < moved.before:
        action = "rolled_back"
    elif moved.before == pointer.version and not pointer.held:
        action = "released"
    return VersionBody(
        version=pointer.version,
        action=action,
        channel=pointer.channel,
        reason=pointer.reason,
        held=pointer.held,
        **more,
    )


def _say(connection: ActorConnection, message: str, level: Literal["info", "warning"] = "info") -> None:
    logger.info("%s", message)
    connection.tell(EventType.LOG, LogBody(message=message), level=level)
