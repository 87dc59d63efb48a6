"""`make_interactive`: any Trainer, steered while it trains."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import time
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import trainer.commands  # noqa: F401  registers what every trainer takes
from dataset import RECEIPT, InteractiveMixture, take_receipt
from trainer.callback import ControlCallback
from trainer.checkpoints import Start
from trainer.compat import Hooks
from trainer.connect import connect
from trainer.errors import CheckpointMissing, SettingsInvalid
from trainer.lifecycle import Lifecycle
from trainer.link import Link, MemoryLink
from trainer.loader import mixture_loader
from trainer.ranks import Ranks
from trainer.replay import ReplayLink, Score, read_score, register
from trainer.reporter import ENDLESS
from trainer.schedule import make_scalable
from trainer.segments import MAIN, RunFolder, StartReason
from trainer.settings import InteractiveSettings
from trainer.steering import Steering

T = TypeVar("T", bound=type)

logger = logging.getLogger(__name__)


def make_interactive(trainer_class: T) -> T:
    """A subclass of a Trainer class that obeys commands while it trains (the paper's figure 4, section 2.2).

    It takes what the class takes, and two keyword arguments more: `control`, an `InteractiveSettings`, and `link`, a
    connection to use instead of the one that the settings name. Without either it starts a control server beside the
    training, and says where through `logging`. One call of `train()` may go through several segments; it returns what
    the last one returned.
    """
    if not (isinstance(trainer_class, type) and issubclass(trainer_class, Trainer)):
        raise SettingsInvalid(
            f"{trainer_class!r} is not a transformers Trainer class; give Trainer or one derived from it"
        )
    if issubclass(trainer_class, InteractiveTrainer):
        return trainer_class
    made: T = _interactive(cast(Hashable, trainer_class))
    return made


@functools.cache
def _interactive(trainer_class: Any) -> Any:
    name = f"Interactive{trainer_class.__name__}"
    known = hasattr(trainer_class, "saw_losses")  # it calls what `InteractiveTrainer` overrides
    inside = {"__module__": trainer_class.__module__, "row_losses_known": known}
    return type(name, (InteractiveTrainer, trainer_class), inside)


class InteractiveTrainer(Hooks):
    """What `make_interactive` mixes in before a Trainer class."""

    steering: Steering
    row_losses_known = False
    """Whether this class itself tells the loss of each row of each batch (`saw_losses`)."""
    args: Any
    train_dataset: Any

    def __init__(
        self, *args: Any, control: InteractiveSettings | None = None, link: Link | None = None, **kwargs: Any
    ) -> None:
        self._settings, self._given_link = control or InteractiveSettings(), link
        self._score: Score | None = None
        self._replayed: ReplayLink | None = None
        _adapt_arguments([*args, *kwargs.values()])
        super().__init__(*args, **kwargs)
        folder = RunFolder(Path(self._settings.folder or self.args.output_dir))
        self.steering = Steering(self, self._settings, folder, _run_name(self._settings, self.args, folder))
        self._lifecycle = Lifecycle(self.steering)
        self.add_callback(ControlCallback(self.steering, self._lifecycle))

    # The run

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train until the last step, a stop or a termination; loads and new datasets along the way begin new segments.

        `resume_from_checkpoint=True` goes on from where the run in this folder ended, whichever branch that was.
        """
        lifecycle = self._lifecycle
        ranks = Ranks(self.args.process_index, self.args.world_size)
        with self._the_only_one(ranks):
            start = self._first_start(resume_from_checkpoint)
            ranks.barrier()  # all have looked before one begins a segment
            link = self._link(ranks, start)
            with lifecycle.run(ranks, link):
                while True:
                    try:
                        lifecycle.prepare(start)
                        path = None if start.path is None else str(start.path)
                        output = super().train(path, *args, **kwargs)
                    except Exception as error:
                        start = lifecycle.retreat(error)
                        continue
                    going_on = lifecycle.depart()
                    if going_on is None:
                        return output
                    start = going_on

    def replay(self, run: Path, until: int | None = None) -> ReplayLink:
        """Train as the run in the folder `run` was trained, with what was done to it after the same steps (see `replay`),
        up to step `until` or the Trainer's last. This trainer has to be made as that run's was, with a folder of its own.
        """
        register()
        self._score = read_score(RunFolder(run), until)
        try:
            self.train(None if self._score.first is None else str(self._score.first))
        finally:
            self._score = None
        if self._replayed is None:
            raise SettingsInvalid("only the first rank replays; ask the trainer of rank 0 what came of it")
        return self._replayed

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer does, with the averaged weights where there are some."""
        if self.steering.ema is None:
            return super().evaluate(*args, **kwargs)
        with self.steering.ema.applied():
            return super().evaluate(*args, **kwargs)

    # What the loop asks for

    def get_train_dataloader(self) -> Any:
        """The mixture's own loader for a mixture, the Trainer's for every other dataset."""
        if isinstance(self.train_dataset, InteractiveMixture):
            return mixture_loader(self.steering, self.train_dataset, self.data_collator)
        return super().get_train_dataloader()

    def create_scheduler(self, num_training_steps: int, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's schedule, with a factor that commands may set; over as many steps as at first, wherever the end
        was moved to."""
        steps = self.steering.horizon.schedule_steps(num_training_steps)
        return make_scalable(super().create_scheduler(steps, *args, **kwargs))

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The batches of one step; none where the loop is to be left, so that no further step is taken."""
        if not self.steering.before_fetch():
            return [], None
        asked = time.perf_counter()
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.steering.meter.waited(time.perf_counter() - asked)
        return (batches, items) if self.steering.leaving is None else ([], None)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass; what travelled with the batch is kept for the end of the step."""
        if isinstance(inputs, MutableMapping) and RECEIPT in inputs:
            self.steering.saw_batch(take_receipt(inputs))
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)
        self.steering.meter.loss(loss, _rows(inputs))
        return loss

    # What is seen and decided

    def checkpoint_wanted(self, save: Callable[[], None]) -> None:
        """See `Steering.checkpoint_wanted`."""
        self.steering.checkpoint_wanted(save)

    def saw_grad_norm(self, norm: Any) -> None:
        """See `Steering.saw_grad_norm`."""
        self.steering.saw_grad_norm(norm)

    def saw_losses(self, losses: torch.Tensor) -> None:
        """The loss of each row of the batch, from a Trainer that knows them: reported by source."""
        sources = self.steering.batch_sources
        if sources is not None and self.model.training and len(sources) == len(losses):
            self.steering.meter.per_sample(sources, losses)

    # Within

    def _the_only_one(self, ranks: Ranks) -> contextlib.AbstractContextManager[None]:
        return self.steering.folder.lock() if ranks.main else contextlib.nullcontext()

    def _link(self, ranks: Ranks, start: Start) -> Link:
        if not ranks.main:
            return MemoryLink()
        link = self._given_link or connect(self.steering, start)
        if self._score is None:
            return link
        self._replayed = ReplayLink(link, self._score, self.steering)
        return self._replayed

    def _first_start(self, resume: str | bool | None) -> Start:
        checkpoints, folder = self.steering.checkpoints, self.steering.folder
        newest = checkpoints.latest() if resume else None
        if not resume:
            return Start(StartReason.FRESH, _free_branch(folder))
        if resume is True:
            if newest is not None:
                return newest
            resume = get_last_checkpoint(self.args.output_dir)
            if resume is None:
                raise CheckpointMissing(
                    f"{folder.path}: there is nothing to resume here; call train() without resuming"
                )
        path = Path(str(resume))
        if newest is not None and newest.path is not None and newest.path.resolve() == path.resolve():
            return newest
        return checkpoints.outside(path, StartReason.LOAD, _free_branch(folder))


def _free_branch(folder: RunFolder) -> str:
    return folder.new_branch(None) if folder.branches() else MAIN


def _run_name(settings: InteractiveSettings, args: Any, folder: RunFolder) -> str:
    """What the run is called: a name that is asked for as it is, any other one made to fit."""
    if settings.run is not None:
        return settings.run
    name = args.run_name or folder.path.absolute().name
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9._-]+", "-", Path(name).name).strip("-")[:64] or "run"


def _adapt_arguments(given: Sequence[Any]) -> None:
    """A mixture never ends, knows where it is, and carries receipts; the Trainer's arguments have to allow for it.

    Both are found by what they are: a Trainer class may take them under any name.
    """
    args = next((each for each in given if isinstance(each, TrainingArguments)), None)
    if args is None or not any(isinstance(each, InteractiveMixture) for each in given):
        return
    args.remove_unused_columns = False  # what a sample holds is what its source was told to decode
    args.ignore_data_skip = True  # it goes on where the checkpoint stands; transformers would read it all again
    if args.max_steps <= 0:
        logger.info("the data is a stream without an end, so max_steps is set to %d", ENDLESS)
        args.max_steps = ENDLESS


def _rows(inputs: Any) -> int:
    if isinstance(inputs, Mapping):
        for value in inputs.values():
            if isinstance(value, torch.Tensor) and value.ndim:
                return int(value.shape[0])
    return 0
