"""Writing a checkpoint on all ranks, and taking up what it holds beside the Trainer's own files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from dataset import InteractiveMixture, InteractiveParameters, merge_states
from publish.durable import write_file
from trainer.checkpoints import PREFIX, STATE, Checkpoint, InteractiveState, new_card, prepare
from trainer.compat import push_checkpoint
from trainer.ema import FILE as EMA_FILE
from trainer.errors import CheckpointError
from trainer.segments import Segment

if TYPE_CHECKING:
    from trainer.steering import Steering


@runtime_checkable
class Reconstructable(Protocol):
    """A dataset that can be made anew: `construction` is what it was made with, of JSON types."""

    @property
    def construction(self) -> Mapping[str, Any]: ...

    def reconstructed(self, **changes: Any) -> Any:
        """The same with other arguments."""
        ...


class Saver:
    """Saves and restores for one training."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    def write(self, trainer_part: Callable[[], None], reason: str) -> Checkpoint:
        """Save a checkpoint on every rank, visible at once or not at all.

        `trainer_part` lets the Trainer write its own files into `args.output_dir`. Raises `CheckpointError` on all ranks
        where one fails (a full disk, …); what was there before is untouched.
        """
        steering, trainer = self._steering, self._steering.trainer
        segment = steering.segment
        if segment is None:
            raise CheckpointError("a checkpoint belongs to a segment, and none has begun; save while training runs")
        staging = steering.checkpoints.staging(segment.id)
        staged = staging / f"{PREFIX}{trainer.state.global_step}"
        if steering.ranks.main:
            self._together(lambda: prepare(staging))
        else:
            self._together(lambda: None)
        with _redirected(trainer.args, staging):
            self._together(trainer_part)
        self._together(lambda: self._write_data(staged))
        saved: list[Checkpoint] = []
        self._together(lambda: saved.append(self._publish(staged, segment, reason)))
        if trainer.args.push_to_hub:
            push_checkpoint(trainer, saved[0].path)
        self._prune()
        return saved[0]

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up what the Trainer does not load by itself. The data has been restored before (see `restore_data`)."""
        steering, state = self._steering, checkpoint.state()
        if state.max_grad_norm is not None:
            steering.trainer.args.max_grad_norm = state.max_grad_norm
        steering.layers.restore(state.layers)
        steering.kept.restore(state.settings)
        steering.newest_sample_time = state.newest_sample_time
        if steering.ema is not None and (checkpoint.path / EMA_FILE).exists():
            steering.ema.load(checkpoint.path)

    def restore_data(self, checkpoint: Checkpoint, construction: Mapping[str, Any] | None = None) -> bool:
        """Let the data go on where the checkpoint stands, up to its last step; before the loader is made.
        `construction` overrides its own. Returns whether the data was made anew for that."""
        trainer, state = self._steering.trainer, checkpoint.state()
        self._steering.horizon.restore(state.max_steps, state.scheduled_steps)
        wanted = state.construction if construction is None else construction
        rebuilds = isinstance(trainer.train_dataset, Reconstructable) and wanted is not None
        made_anew = rebuilds and dict(trainer.train_dataset.construction) != dict(wanted or {})
        if made_anew:
            before = trainer.train_dataset
            if isinstance(before, InteractiveMixture):
                trainer.train_dataset = before.constructed(wanted or {})
                before.close()  # its workers and its log's reader; should it come again, it opens them again
            else:
                trainer.train_dataset = before.reconstructed(**(wanted or {}))
        if isinstance(trainer.train_dataset, InteractiveParameters) and state.parameters is not None:
            trainer.train_dataset.set_interactive_parameters(state.parameters)
        mixtures = checkpoint.mixtures()
        if isinstance(trainer.train_dataset, InteractiveMixture) and mixtures:
            trainer.train_dataset.load_state_dict(merge_states(mixtures))
        return made_anew

    # Within

    def _write_data(self, staged: Path) -> None:
        dataset = self._steering.trainer.train_dataset
        if self._steering.journal is not None:
            self._steering.journal.sync()
        if isinstance(dataset, InteractiveMixture):
            stored = msgspec.json.encode(dataset.state_dict())
            write_file(staged / f"mixture-{self._steering.ranks.rank}.json", stored)

    def _publish(self, staged: Path, segment: Segment, reason: str) -> Checkpoint:
        """Rank 0 makes it visible; the others learn where."""
        steering = self._steering
        revision = max(steering.revision, steering.link.revision)
        card = new_card(segment, steering.step, revision, reason, steering.ranks.world)
        if not steering.ranks.main:
            return Checkpoint(staged, card)
        if steering.ema is not None:
            steering.ema.save(staged)
        write_file(staged / STATE, msgspec.json.encode(self._state()))
        target = steering.checkpoints.target(card)
        state = steering.trainer.state
        if state.best_model_checkpoint == str(staged):
            state.best_model_checkpoint = str(target)
            state.save_to_json(str(staged / "trainer_state.json"))
        return steering.checkpoints.publish(staged, target, card)

    def _state(self) -> InteractiveState:
        steering, dataset = self._steering, self._steering.trainer.train_dataset
        return InteractiveState(
            max_grad_norm=steering.trainer.args.max_grad_norm,
            layers=steering.layers.state(),
            newest_sample_time=steering.newest_sample_time,
            max_steps=steering.horizon.moved,
            scheduled_steps=steering.horizon.scheduled,
            settings=steering.kept.state(),
            construction=dict(dataset.construction) if isinstance(dataset, Reconstructable) else None,
            parameters=dataset.interactive_parameters() if isinstance(dataset, InteractiveParameters) else None,
        )

    def _together(self, action: Callable[[], Any]) -> None:
        """Do something on every rank and wait for all. Raises `CheckpointError` on each where it failed on one."""
        problem, cause = "", None
        try:
            action()
        except Exception as error:  # a rank that raised alone would leave the others waiting for it
            problem, cause = f"{type(error).__name__}: {error}", error
        problem = next((found for found in self._steering.ranks.gather(problem) if found), "")
        if problem:
            raise CheckpointError(f"the checkpoint of step {self._steering.step} was not saved: {problem}") from cause

    def _prune(self) -> None:
        steering = self._steering
        keep = steering.settings.keep_checkpoints or steering.trainer.args.save_total_limit
        if keep and steering.ranks.main:
            for checkpoint in steering.checkpoints.prune(keep, steering.trainer.state.best_model_checkpoint):
                steering.reporter.deleted(checkpoint)


@contextlib.contextmanager
def _redirected(args: Any, folder: Path) -> Iterator[None]:
    """The Trainer writes into `folder`, uploads nothing and deletes nothing."""
    before = args.output_dir, args.push_to_hub, args.save_total_limit
    args.output_dir, args.push_to_hub, args.save_total_limit = os.fspath(folder), False, None
    try:
        yield
    finally:
        args.output_dir, args.push_to_hub, args.save_total_limit = before
