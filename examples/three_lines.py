"""The paper's three lines around a training script that knows nothing of them.

    python examples/three_lines.py [FOLDER] [STEPS]

A tiny GPT-2 with random weights learns the text of Python's own manual, letter by letter. The log says where to steer it
and with which token; then, from another terminal:

    stovetop --help          # pause, resume, lr, save, load, eval, stop …
"""

from __future__ import annotations

import logging
import sys
from pydoc_data.topics import topics

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from interactive_training import make_interactive  # (1) import the helper

LENGTH = 64


class Letters(Dataset[dict[str, torch.Tensor]]):
    """Stretches of a text, as bytes."""

    def __init__(self, text: str) -> None:
        self._letters = torch.tensor(list(text.encode()), dtype=torch.long)

    def __len__(self) -> int:
        return len(self._letters) // LENGTH

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        stretch = self._letters[index * LENGTH : (index + 1) * LENGTH]
        return {"input_ids": stretch, "labels": stretch}


def main(folder: str = "three-lines", steps: str = "2000") -> None:
    """Train; every command of the paper works meanwhile."""
    text = "\n".join(topics[name] for name in sorted(topics))
    split = len(text) * 9 // 10
    small = GPT2Config(
        vocab_size=256, n_positions=LENGTH, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    InteractiveTrainer = make_interactive(Trainer)  # noqa: N806  (2) wrap the class
    trainer = InteractiveTrainer(  # (3) use it exactly like the original
        model=GPT2LMHeadModel(small),
        args=TrainingArguments(
            output_dir=folder,
            max_steps=int(steps),
            per_device_train_batch_size=16,
            learning_rate=1e-3,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
        ),
        train_dataset=Letters(text[:split]),
        eval_dataset=Letters(text[split : split + 64 * LENGTH]),
    )
    trainer.train()  # training is now interactive


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    main(*sys.argv[1:])
