"""The publisher's process: entries of the outbox go to the hub, and operators move channels."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control import ActorConnection, ActorKind, CommandName, CommandSpec, Delivery, EventType, Outcome, Report, Status
from control.bodies import LogBody, VersionBody
from ingest.plugins import load_plugin
from publish import (
    Coalesced,
    Failed,
    Gate,
    Hub,
    Judged,
    Moved,
    Outbox,
    Published,
    Publisher,
    PublisherEvent,
    PublishError,
    Retired,
    SigningKey,
)
from publish.places import publishers_hub
from stovetop.errors import ConfigurationError
from stovetop.play import stop_on_signals
from stovetop.reporting import control_url
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings

LOOK = 0.02
"""Seconds between two looks at the outbox while commands are waited for."""

logger = logging.getLogger(__name__)


class MoveChannel(BaseModel):
    """What moves a channel takes. Without `version`: the newest, the one before, or where it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: str = Field("stable", min_length=1, max_length=64)
    version: int | None = Field(None, ge=1)


SUMMARIES = {
    CommandName.PROMOTE_VERSION: "Point a channel at a version, and release it if it was held",
    CommandName.ROLLBACK_VERSION: "Take a channel back to an earlier version, and hold it there",
    CommandName.PIN_VERSION: "Hold a channel where it stands, or at a version",
}


def run(settings: Settings) -> None:
    """Publish until told to stop."""
    stop = stop_on_signals()
    chosen = settings.publish
    outbox = Outbox(chosen.outbox)
    connection = ActorConnection(
        control_url(settings),
        local_token(settings, Holder.ROLES),
        run=settings.run,
        actor="publisher",
        kind=ActorKind.PUBLISHER,
        commands=[
            CommandSpec(
                name=name,
                summary=summary,
                arguments=MoveChannel.model_json_schema(),
                destructive=name is CommandName.ROLLBACK_VERSION,
            )
            for name, summary in SUMMARIES.items()
        ],
    )
    hub = publishers_hub(chosen)
    publisher = Publisher(
        hub,
        outbox,
        SigningKey.load_or_create(chosen.key),
        keep=chosen.keep,
        tell=lambda event: _tell(connection, event),
        longest_wait=chosen.longest_wait,
        deltas=chosen.deltas,
        gate=_gate(settings, hub),
    )
    connection.start()
    with outbox.served():
        while not stop.is_set():
            wait = publisher.step()
            for delivery in connection.wait(min(wait, 1.0) or LOOK):
                connection.report(_obey(publisher, delivery))
    connection.close("the publisher stops")


def _gate(settings: Settings, hub: Hub) -> Gate | None:
    if not settings.gate.enabled:
        return None
    evaluate = load_plugin(settings.app.evaluation) if settings.app.evaluation else None
    if settings.gate.app and evaluate is None:
        raise ConfigurationError("gate.app has rules, but app.evaluation is not set; name what measures as module:name")
    return Gate(settings.gate, settings.judged, hub, evaluate)


def _obey(publisher: Publisher, delivery: Delivery) -> Report:
    command = delivery.command
    try:
        arguments = MoveChannel.model_validate(command.arguments)
        move = {
            CommandName.PROMOTE_VERSION.value: publisher.promote_version,
            CommandName.ROLLBACK_VERSION.value: publisher.rollback_version,
            CommandName.PIN_VERSION.value: publisher.pin_version,
        }.get(command.command)
        if move is None:
            raise ValueError(f"{command.command}: the publisher does not take it, only {', '.join(SUMMARIES)}")
        if command.dry_run:
            return Report(uuid=command.uuid, status=Status.SUCCESS, outcome=Outcome.SUCCESS, reason="a dry run")
        moved = move(arguments.channel, arguments.version, by=command.author, reason=command.note)
    except (ValidationError, ValueError) as error:
        return Report(uuid=command.uuid, status=Status.FAILED, outcome=Outcome.REJECTED, reason=str(error))
    except (PublishError, OSError) as error:
        return Report(uuid=command.uuid, status=Status.FAILED, outcome=Outcome.FAILED, reason=str(error))
    return Report(
        uuid=command.uuid,
        status=Status.SUCCESS,
        outcome=Outcome.SUCCESS,
        before=moved.before,
        after={"version": moved.pointer.version, "held": moved.pointer.held},
    )


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
                    reason=f"step {manifest.step}" + (" (again)" if event.repeated else ""),
                ),
                branch=manifest.branch,
                step=manifest.step,
            )
        case Moved(pointer=pointer) if pointer.moved_by != "publisher":  # its own moves are told as published
            connection.tell(EventType.VERSION, _moved(event))
        case Judged(decision=decision) if not decision.passed:
            body = VersionBody(version=decision.version, action="refused", reason=decision.reason)
            connection.tell(EventType.VERSION, body, level="warning")
        case Judged(moved=Moved() as moved):
            connection.tell(EventType.VERSION, _moved(moved))
        case Judged(decision=decision):
            _say(
                connection,
                f"version {decision.version:06d} passed the gate; its channel is held, or waits for a person",
            )
        case Coalesced(ticket=ticket, newer=newer):
            _say(connection, f"the weights of step {ticket.step} gave way to those of step {newer.step}")
        case Failed(ticket=ticket):
            _say(connection, f"step {ticket.step} is not published, attempt {event.attempt}: {event.error}", "warning")
        case Retired(versions=versions):
            _say(connection, "files of old versions were deleted: " + ", ".join(f"{number:06d}" for number in versions))
        case _:
            pass


def _moved(moved: Moved) -> VersionBody:
    pointer = moved.pointer
    action: Any = "pinned" if pointer.held else "promoted"
    if moved.before is not None and pointer.version < moved.before:
        action = "rolled_back"
    return VersionBody(
        version=pointer.version, action=action, channel=pointer.channel, reason=pointer.reason, held=pointer.held
    )


def _say(connection: ActorConnection, message: str, level: Literal["info", "warning"] = "info") -> None:
    logger.info("%s", message)
    connection.tell(EventType.LOG, LogBody(message=message), level=level)
