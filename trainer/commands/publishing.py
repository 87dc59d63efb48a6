"""`publish_checkpoint`: hand the weights as they are now to the publisher."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from control.api import NAME_PATTERN
from control.protocol import CommandName
from trainer.command import Arguments, Plan, register_command
from trainer.errors import CommandRejected
from trainer.steering import Steering


class PublishArguments(Arguments):
    """`channel` that the version is for; the run's own where none is given."""

    channel: str | None = Field(default=None, pattern=NAME_PATTERN)


def publish(steering: Steering, arguments: PublishArguments) -> Plan:
    """Hand the weights over. Success says that they are safe in the outbox; the version's number comes with its event."""
    if steering.settings.outbox is None:
        raise CommandRejected("publish_checkpoint: this trainer has no outbox; set `outbox` in its settings")
    channel = arguments.channel or steering.settings.channel

    def apply() -> dict[str, Any]:
        placed = steering.publish(channel, steering.desk.current or "")
        return {"channel": channel, "entry": "" if placed is None else placed.result().entry.path.name}

    return Plan(apply, after={"channel": channel, "step": steering.step})


register_command(
    CommandName.PUBLISH_CHECKPOINT, PublishArguments, publish, summary="Publish the weights as they are now"
)
