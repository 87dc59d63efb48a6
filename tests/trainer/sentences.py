"""Made-up rows to train on, in a module that loading workers import quickly."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

WORDS = 32
LENGTH = 8


class Sentences(Dataset[dict[str, torch.Tensor]]):
    """Rows of made-up words, each always the same."""

    def __init__(self, count: int = 64, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = (torch.arange(LENGTH) * (index + self.first + 1)) % WORDS
        return {"input_ids": words, "labels": words}
