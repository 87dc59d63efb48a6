"""The commands that the publisher takes: an operator's moves of a channel, and followers' alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control import CommandName, CommandSpec, Delivery, Outcome, Report, Status
from publish import Alarm, Moved, Publisher, PublishError, Recalls

RAISE_ALARM = "raise_alarm"


class ReleaseChannel(BaseModel):
    """Which channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: str = Field("stable", min_length=1, max_length=64)


class MoveChannel(ReleaseChannel):
    """What moves a channel takes. Without `version`: the newest, the one before, or where it stands."""

    version: int | None = Field(None, ge=1)


class RaiseAlarm(ReleaseChannel):
    """A follower's complaint about a version, with the figures that it rests on. It went back by itself already."""

    version: int = Field(ge=1)
    follower: str = Field("", max_length=64)
    back_to: int | None = None
    reason: str = Field(max_length=1000)
    figures: Mapping[str, float] = Field({}, max_length=50)
    raised_at: float = 0.0


ARGUMENTS: Mapping[str, type[ReleaseChannel]] = {
    CommandName.PROMOTE_VERSION: MoveChannel,
    CommandName.ROLLBACK_VERSION: MoveChannel,
    CommandName.PIN_VERSION: MoveChannel,
    CommandName.RELEASE_CHANNEL: ReleaseChannel,
    RAISE_ALARM: RaiseAlarm,
}
SUMMARIES: Mapping[str, str] = {
    CommandName.PROMOTE_VERSION: "Point a channel at a version, and release it if it was held",
    CommandName.ROLLBACK_VERSION: "Take a channel back to an earlier version, and hold it there",
    CommandName.PIN_VERSION: "Hold a channel where it stands, or at a version",
    CommandName.RELEASE_CHANNEL: "Let the next version move a channel that was held",
    RAISE_ALARM: "A follower found a version worse than it may be; the channel goes back, within bounds",
}


def specs() -> Sequence[CommandSpec]:
    """What the publisher tells the control server of its commands."""
    return [
        CommandSpec(
            name=name,
            summary=summary,
            arguments=ARGUMENTS[name].model_json_schema(),
            destructive=name == CommandName.ROLLBACK_VERSION,
        )
        for name, summary in SUMMARIES.items()
    ]


class Moves:
    """Obeys them."""

    def __init__(self, publisher: Publisher, recalls: Recalls) -> None:
        self._publisher, self._recalls = publisher, recalls

    def obey(self, delivery: Delivery) -> Report:
        """Do what is asked, and say what became of it. Nothing is raised for a command that cannot be obeyed."""
        command = delivery.command
        try:
            kind = ARGUMENTS.get(command.command)
            if kind is None:
                raise ValueError(f"{command.command}: the publisher does not take it, only {', '.join(SUMMARIES)}")
            arguments = kind.model_validate(command.arguments)
            if command.dry_run:
                return Report(uuid=command.uuid, status=Status.SUCCESS, outcome=Outcome.SUCCESS, reason="a dry run")
            if isinstance(arguments, RaiseAlarm):
                return self._recall(command.uuid, arguments, command.author)
            moved = self._move(command.command, arguments, command.author, command.note)
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

    def _move(self, name: str, arguments: ReleaseChannel, by: str, reason: str) -> Moved:
        if not isinstance(arguments, MoveChannel):
            return self._publisher.release_channel(arguments.channel, by=by, reason=reason)
        move = {
            CommandName.PROMOTE_VERSION.value: self._publisher.promote_version,
            CommandName.ROLLBACK_VERSION.value: self._publisher.rollback_version,
            CommandName.PIN_VERSION.value: self._publisher.pin_version,
        }[name]
        return move(arguments.channel, arguments.version, by=by, reason=reason)

    def _recall(self, uuid: str, asked: RaiseAlarm, author: str) -> Report:
        alarm = Alarm(asked.channel, asked.version, asked.back_to, asked.reason, asked.figures, asked.raised_at)
        recall = self._recalls.take(alarm, asked.follower or author)
        return Report(
            uuid=uuid,
            status=Status.SUCCESS,
            outcome=Outcome.SUCCESS,
            reason=recall.reason,
            before=asked.version,
            after={"deed": recall.deed.value, "followers": list(recall.followers)},
        )
