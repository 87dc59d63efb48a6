"""`do_evaluate`: evaluate now, without a training step and without a trace in training."""

from __future__ import annotations

from control.protocol import CommandName
from trainer.command import NoArguments, Plan, register_command
from trainer.errors import CommandRejected
from trainer.steering import Steering


def evaluate(steering: Steering, _: NoArguments) -> Plan:
    """Evaluate now."""
    if steering.trainer.eval_dataset is None:
        raise CommandRejected("do_evaluate: this trainer has no eval_dataset; give it one when it is made")
    return Plan(steering.evaluate)


register_command(CommandName.DO_EVALUATE, NoArguments, evaluate, summary="Evaluate now")
