"""`update_training`: move the last step while training runs."""

from __future__ import annotations

from pydantic import Field

from control.protocol import CommandKind, CommandName
from trainer.checkpoints import Start
from trainer.command import Arguments, Later, Plan, register_command
from trainer.errors import CommandFailed, CommandRejected, TrainerError
from trainer.segments import StartReason
from trainer.steering import Departure, Leave, Steering


class LengthArguments(Arguments):
    """`max_steps`: the optimizer step at which training ends."""

    max_steps: int = Field(gt=0, le=10**12)


def update_training(steering: Steering, arguments: LengthArguments) -> Plan:
    """End at another step. The learning-rate schedule keeps the shape that it has."""
    last, before = arguments.max_steps, int(steering.trainer.state.max_steps)
    if last <= steering.step:
        raise CommandRejected(
            f"max_steps: {last} is not beyond step {steering.step}, which is done; send stop_training to end now"
        )
    reach = steering.horizon.reach()

    def apply() -> Later | None:
        kept = steering.horizon.moved, steering.horizon.scheduled
        steering.horizon.move(last)
        if reach is None or last <= reach:
            steering.reporter.everything()
            return None
        try:
            saved = steering.save("further steps")
        except TrainerError as error:
            steering.horizon.move(before)
            steering.horizon.moved, steering.horizon.scheduled = kept
            raise CommandFailed(f"{error}; the last step was not moved") from error
        # the loop that runs counts so many passes over the data, so another one takes over
        start = Start.at(saved, StartReason.RESUME, saved.card.branch, "further steps")
        steering.leave(Departure(Leave.ELSEWHERE, "further steps", start, start))
        return Later()

    return Plan(apply, {"max_steps": before}, {"max_steps": last}, steering.step + 1)


register_command(
    CommandName.UPDATE_TRAINING,
    LengthArguments,
    update_training,
    summary="Move the last step",
    kind=CommandKind.SETTING,
    kept=False,
)
