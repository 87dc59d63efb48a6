"""How many batches are stale after a change of weights, inside an `InteractiveTrainer`.

Two sources say their number in every row; at a step's end the weights go from the first to the second. A batch is stale
when it is trained after that and holds a row of the first, before the first optimizer step that holds none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import IterableDataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from dataset import make_interactive_dataset
from trainer import InteractiveSettings, MemoryLink, make_interactive

CHANGE_AT = 3
BATCH = 4
NEVER = 40
"""Batches after the change that are looked at."""
BEFORE, AFTER = {"first": 1.0, "second": 1e-9}, {"first": 1e-9, "second": 1.0}  # some refuse a weight of 0

Rows = IterableDataset[Mapping[str, torch.Tensor]]
Change = Callable[[], None]


class Numbered(torch.utils.data.Dataset[Mapping[str, torch.Tensor]]):
    """Rows that say which source they are of."""

    def __init__(self, number: int) -> None:
        self.row = {"source": torch.tensor(float(number))}

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, at: int) -> Mapping[str, torch.Tensor]:
        return self.row


class Endless(Rows):
    """The same, without end."""

    def __init__(self, number: int) -> None:
        self.row = Numbered(number).row

    def __iter__(self) -> Iterator[Mapping[str, torch.Tensor]]:
        while True:
            yield self.row

    def numbers(self) -> Iterator[Mapping[str, float]]:
        """Without tensors."""
        return ({"source": float(row["source"])} for row in self)


class _Made(Rows):
    """Iterates what a function makes, in the process that reads."""

    def __init__(self, make: Callable[[], Iterator[Mapping[str, torch.Tensor]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Mapping[str, torch.Tensor]]:
        return self._make()


def torchdata() -> tuple[Rows, Change]:
    """`MultiNodeWeightedSampler`; its weights are changed in place, which is the only way there is."""
    from torchdata.nodes import IterableWrapper, MultiNodeWeightedSampler

    weights = dict(BEFORE)

    def make() -> Iterator[Mapping[str, torch.Tensor]]:
        nodes = {name: IterableWrapper(Endless(number)) for number, name in enumerate(weights)}
        sampler = MultiNodeWeightedSampler(nodes, weights, rank=0, world_size=1)
        sampler.reset()
        return iter(sampler)

    return _Made(make), lambda: weights.update(AFTER)


def webdataset() -> tuple[Rows, Change]:
    """`RandomMix`; its probabilities are set anew."""
    from webdataset.mix import RandomMix

    mix = RandomMix([Endless(0), Endless(1)], list(BEFORE.values()))
    return mix, lambda: setattr(mix, "probs", list(AFTER.values()))


def datasets() -> tuple[Rows, Change]:
    """`interleave_datasets`, which offers no way."""
    from datasets import IterableDataset as Iterable
    from datasets import interleave_datasets

    parts = [Iterable.from_generator(Endless(number).numbers) for number in range(2)]
    mixed = interleave_datasets(parts, probabilities=[0.999999, 0.000001], seed=0)
    return _Made(lambda: iter(mixed)), lambda: None


def grain() -> tuple[Rows, Change]:
    """`IterDataset.mix`, which offers no way while it is read."""
    from grain import IterDataset, MapDataset

    parts = [MapDataset.source([Numbered(number).row]).repeat().to_iter_dataset() for number in range(2)]
    mixed = IterDataset.mix(parts, list(BEFORE.values()))
    return _Made(lambda: iter(mixed)), lambda: None


def shared_memory() -> tuple[Rows, Change]:
    """A mixer of one's own that looks at shared memory at every draw: the most that a `DataLoader` lets anybody do."""
    second: torch.Tensor = torch.zeros(1).share_memory_()  # type: ignore[no-untyped-call]

    def make() -> Iterator[Mapping[str, torch.Tensor]]:
        rows = [Numbered(0).row, Numbered(1).row]
        while True:
            yield rows[int(second[0])]

    def change() -> None:
        second.fill_(1)

    return _Made(make), change


PEERS: dict[str, tuple[str, Callable[[], tuple[Rows, Change]]]] = {
    "torchdata": ("torchdata", torchdata),
    "webdataset": ("webdataset", webdataset),
    "datasets": ("datasets", datasets),
    "grain": ("grain", grain),
    "shared_memory": ("torch", shared_memory),
}
"""The module that each needs, and what makes its rows and changes its weights."""


def ours(workers: int, prefetch: int, accumulation: int) -> int | None:
    """Stale batches of a mixture; workers load up to `prefetch` MiB ahead, which is thousands of these rows."""
    sources = {"first": Numbered(0), "second": Numbered(1)}
    mixture = make_interactive_dataset(sources, BEFORE, workers=workers, ahead_bytes=prefetch << 20)
    link = MemoryLink()

    def change() -> None:
        link.send("update_dataset_runtime_hyperparameters", weights=AFTER)

    try:
        return _stale(mixture, change, link, accumulation, 0, prefetch)
    finally:
        mixture.close()


def peer(name: str, workers: int, prefetch: int, accumulation: int) -> int | None:
    """Stale batches of a peer in the Trainer's own DataLoader; None: the old weights went on."""
    rows, change = PEERS[name][1]()
    return _stale(rows, change, MemoryLink(), accumulation, workers, prefetch)


class _Watched(Trainer):
    """Remembers the sources of every batch, with the step that it was part of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batches: list[tuple[int, float]] = []

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.batches.append((self.state.global_step + 1, float(inputs["source"].min())))
        return model(inputs["source"][:, None]).mean()


class _At(TrainerCallback):
    def __init__(self, change: Change) -> None:
        self._change = change

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == CHANGE_AT:
            self._change()


def _stale(rows: Any, change: Change, link: MemoryLink, accumulation: int, workers: int, prefetch: int) -> int | None:
    with tempfile.TemporaryDirectory(prefix="stovetop-delay-") as folder:
        watched = make_interactive(_Watched)(
            model=torch.nn.Linear(1, 1),
            args=TrainingArguments(
                folder,
                max_steps=CHANGE_AT + NEVER // accumulation,
                per_device_train_batch_size=BATCH,
                gradient_accumulation_steps=accumulation,
                dataloader_num_workers=workers,
                dataloader_prefetch_factor=prefetch if workers else None,
                remove_unused_columns=False,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=rows,
            control=InteractiveSettings(journal=False),
            link=link,
        )
        watched.remove_callback(PrinterCallback)
        # before the trainer's own, which looks for commands at the same moment
        watched.callback_handler.callbacks.insert(0, _At(change))
        watched.train()
    later = [(step, oldest) for step, oldest in watched.batches if step > CHANGE_AT]
    stale = [step for step, oldest in later if oldest == 0]
    wholly_new = {step for step, _ in later} - set(stale)
    if not wholly_new:
        return None
    return sum(step < min(wholly_new) for step in stale)
