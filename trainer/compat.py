"""Every private name of transformers that this room uses. `tests/trainer/test_compat.py` fails loudly when one moves.

The training loop is transformers' own; what it does not offer publicly is a place to see the gradient's norm, a say in
where a checkpoint is written, and another way to load the weights of a model that is not one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel, Trainer

PRIVATE: Mapping[str, tuple[str, ...]] = {
    "_save_checkpoint": ("self", "model", "trial"),
    "_get_grad_norm": ("self", "model", "grad_norm"),
    "_load_from_checkpoint": ("self", "resume_from_checkpoint", "model"),
    "_push_from_checkpoint": ("self", "checkpoint_folder"),
    "_prepare_inputs": ("self", "inputs"),
}
"""Methods of Trainer that are overridden or called here, with their parameters."""

PUBLIC: Mapping[str, tuple[str, ...]] = {
    "train": ("self", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"),
    "get_train_dataloader": ("self",),
    "get_batch_samples": ("self", "epoch_iterator", "num_batches", "device"),
    "training_step": ("self", "model", "inputs", "num_items_in_batch"),
    "create_scheduler": ("self", "num_training_steps", "optimizer"),
    "evaluate": ("self", "eval_dataset", "ignore_keys", "metric_key_prefix"),
    "get_decay_parameter_names": ("self", "model"),
}
"""Public methods that are overridden or called with these parameters."""

if TYPE_CHECKING:

    class _Mixed(Trainer):
        """What stands behind these classes once `make_interactive` has mixed them in."""

else:
    _Mixed = object


class Hooks(_Mixed):
    """Turns private methods of Trainer into calls of methods that a subclass overrides."""

    def checkpoint_wanted(self, save: Callable[[], None]) -> None:
        """The Trainer wants a checkpoint; `save` writes its part into `args.output_dir`."""
        save()

    def saw_grad_norm(self, norm: Any) -> None:
        """The norm of the gradient before clipping, once a step."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        write = super()._save_checkpoint
        if trial is not None:  # a hyper-parameter search keeps its own folders
            write(model, trial)
        else:
            self.checkpoint_wanted(lambda: write(model, trial))

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.saw_grad_norm(norm)
        return norm


class OwnWeights(_Mixed):
    """For a Trainer of models that transformers cannot load: `load_weights` does it."""

    def load_weights(self, folder: Path) -> None:
        """Load the model's weights from a checkpoint's folder."""
        raise NotImplementedError

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.load_weights(Path(resume_from_checkpoint))


def on_device(trainer: Trainer, inputs: Any) -> Any:
    """A batch as the Trainer hands it to the model."""
    return trainer._prepare_inputs(inputs)


def save_checkpoint(trainer: Trainer) -> None:
    """Save a checkpoint now, as the Trainer's own `save_strategy` would, and tell its callbacks."""
    trainer._save_checkpoint(trainer.model, trial=None)
    trainer.control = trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)


def push_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Upload a checkpoint as `push_to_hub` asks for."""
    trainer._push_from_checkpoint(str(folder))


def reinitialize(model: PreTrainedModel, layer: nn.Module) -> None:
    """Give a layer of one of transformers' models fresh weights, as when the model was built."""
    for parameter in layer.parameters():
        # from_pretrained marks what it has loaded, and initialization leaves marked tensors alone
        parameter._is_hf_initialized = False  # type: ignore[attr-defined]
    for module in reversed(list(layer.modules())):  # children first, as a block may scale what is inside
        model._init_weights(module)
