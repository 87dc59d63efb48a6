"""Pause, resume, stop."""

from __future__ import annotations

from control.protocol import CommandName
from trainer.command import Arguments, Later, NoArguments, Plan, register_command
from trainer.errors import CheckpointError, CommandFailed
from trainer.steering import Departure, Leave, Steering


class StopArguments(Arguments):
    """`save`: save a checkpoint first; left out, one is saved where this run saves any by itself."""

    save: bool | None = None


def pause(steering: Steering, _: NoArguments) -> Plan:
    """Take no further step until `resume_training`; every command works meanwhile."""
    return Plan(steering.pause, before=_state(steering), after="paused")


def resume(steering: Steering, _: NoArguments) -> Plan:
    """Go on after a pause."""
    return Plan(steering.resume, before=_state(steering), after="running", takes_effect_at=steering.step + 1)


def stop(steering: Steering, arguments: StopArguments) -> Plan:
    """End training without a further step; the run stays stopped until somebody starts it again."""
    save = _saves_by_itself(steering) if arguments.save is None else arguments.save

    def apply() -> Later:
        if save:
            try:
                steering.save("stop")
            except CheckpointError as error:
                raise CommandFailed(f'{error}; training goes on. Send {{"save": false}} to stop without one') from error
        steering.leave(Departure(Leave.STOPPED, "stopped by a command"))
        return Later()

    return Plan(apply, before=_state(steering), after="stopped")


def _state(steering: Steering) -> str:
    return "paused" if steering.paused else "running"


def _saves_by_itself(steering: Steering) -> bool:
    every = steering.settings.checkpoint
    return bool(every.steps or every.seconds) or str(steering.trainer.args.save_strategy.value) != "no"


register_command(CommandName.PAUSE_TRAINING, NoArguments, pause, summary="Take no further step for now")
register_command(CommandName.RESUME_TRAINING, NoArguments, resume, summary="Go on after a pause")
register_command(
    CommandName.STOP_TRAINING, StopArguments, stop, summary="End training, saving a checkpoint first", destructive=True
)
