"""What both studies train: a small GPT-2 over bytes, on the text of Python's own manual."""

from __future__ import annotations

from pydoc_data.topics import topics
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel

LENGTH = 64
"""Bytes in a row."""
VALIDATION_ROWS = 256


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Stretches of a text, as bytes."""

    def __init__(self, text: bytes) -> None:
        self._bytes = torch.tensor(list(text), dtype=torch.long)

    def __len__(self) -> int:
        return len(self._bytes) // LENGTH

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self._bytes[index * LENGTH : (index + 1) * LENGTH]
        return {"input_ids": row, "labels": row}


def rows() -> tuple[Rows, Rows]:
    """The manual's first nine tenths to train on, and the first rows of the rest to validate with."""
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    split = len(text) * 9 // 10
    return Rows(text[:split]), Rows(text[split : split + VALIDATION_ROWS * LENGTH])


def model(seed: int) -> Any:
    """About 0.8 million parameters, the same for one seed."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=256,
        n_positions=LENGTH,
        n_embd=128,
        n_layer=4,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        loss_type="ForCausalLM",
    )
    return GPT2LMHeadModel(config)
