"""Save a checkpoint; go back to one, always as a new branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open

from control.protocol import CommandKind, CommandName
from trainer.checkpoints import Checkpoint, Start
from trainer.command import Arguments, Later, NoArguments, Plan, register_command
from trainer.errors import BranchError, CommandFailed, CommandRejected, TrainerError
from trainer.segments import StartReason
from trainer.steering import Departure, Leave, Steering


class LoadArguments(Arguments):
    """`uuid` of the checkpoint; `branch_name` of the branch that begins there, made where none is given.

    `save_first` saves where training is now, so that one can come back, and so that a checkpoint that turns out not to
    load costs nothing.
    """

    uuid: str = Field(min_length=1, max_length=128)
    branch_name: str | None = Field(default=None, max_length=64)
    save_first: bool = True


def save(steering: Steering, _: NoArguments) -> Plan:
    """Save a checkpoint now."""

    def apply() -> dict[str, Any]:
        return described(steering.save("command"))

    return Plan(apply, after={"step": steering.step})


def load(steering: Steering, arguments: LoadArguments) -> Plan:
    """Go back to a checkpoint, as a new branch; everything is checked before training is left."""
    try:
        checkpoint = steering.checkpoints.find(arguments.uuid)
        branch = steering.folder.new_branch(arguments.branch_name)
        checkpoint.check()
        _check_weights(checkpoint.path, steering.model)
    except TrainerError as error:
        raise CommandRejected(str(error)) from error

    def apply() -> Later:
        fallback = _fallback(steering) if arguments.save_first else None
        start = Start.at(checkpoint, StartReason.LOAD, branch)
        steering.leave(Departure(Leave.ELSEWHERE, f"went to step {checkpoint.card.step}", start, fallback))
        return Later()

    before = {"branch": steering.segment.branch if steering.segment else None, "step": steering.step}
    return Plan(apply, before, {"branch": branch, "step": checkpoint.card.step}, checkpoint.card.step + 1)


def _fallback(steering: Steering) -> Start | None:
    try:
        saved = steering.save("before_load")
    except TrainerError as error:
        raise CommandFailed(
            f'{error}; nothing was loaded. Send {{"save_first": false}} to load all the same'
        ) from error
    branch = steering.segment.branch if steering.segment else saved.card.branch
    return Start.at(saved, StartReason.RESUME, branch, "what was to be loaded could not be")


class BranchArguments(Arguments):
    """The branch, as it is recorded."""

    branch: str = Field(min_length=1, max_length=64)


def delete_branch(steering: Steering, arguments: BranchArguments) -> Plan:
    """Delete the checkpoints of a branch that nobody goes on from. Its numbers stay, and its name stays taken."""
    branch = arguments.branch
    if steering.ranks.main:
        try:
            steering.checkpoints.deletable(branch)
        except BranchError as error:
            raise CommandRejected(str(error)) from error

    def apply() -> dict[str, Any]:
        if not steering.ranks.main:
            return {}
        deleted = steering.checkpoints.delete_branch(branch)
        for checkpoint in deleted:
            steering.reporter.deleted(checkpoint, "its branch was deleted")
        steering.reporter.branch_deleted(branch)
        return {"branch": branch, "checkpoints": len(deleted), "bytes": sum(each.bytes for each in deleted)}

    return Plan(apply, after={"branch": branch})


def described(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint, as commands show it."""
    return {"uuid": checkpoint.card.uuid, "step": checkpoint.card.step, "path": str(checkpoint.path)}


def _check_weights(path: Path, model: torch.nn.Module) -> None:
    """Raise `CommandRejected` for weights that are damaged or another model's; only headers are read."""
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for file in sorted(path.glob("*.safetensors")):
        if file.name.startswith("ema"):
            continue
        try:
            with safe_open(file, framework="pt") as stored:
                shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CommandRejected(f"{file}: damaged ({error}); load another checkpoint") from error
        odd = [name for name, shape in shapes.items() if own.get(name) != shape]
        if odd:
            raise CommandRejected(f"{file}: weights of another model ({odd[0]} differs); load one of this model")


register_command(
    CommandName.DELETE_BRANCH,
    BranchArguments,
    delete_branch,
    summary="Delete the checkpoints of a branch",
    destructive=True,
)
register_command(CommandName.SAVE_CHECKPOINT, NoArguments, save, summary="Save a checkpoint now")
register_command(
    CommandName.LOAD_CHECKPOINT,
    LoadArguments,
    load,
    summary="Go back to a checkpoint, as a new branch",
    destructive=True,
    kind=CommandKind.RESTORE,
)
