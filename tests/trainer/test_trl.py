"""TRL's trainers are steered like transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from control import Outcome
from tests.trainer.trainings import LENGTH, WORDS, At, gpt2
from trainer import InteractiveSettings, MemoryLink, make_interactive

Make = Callable[[str], tuple[Any, MemoryLink]]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    def make(name: str) -> tuple[Any, MemoryLink]:
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        plain = Tokenizer(models.WordLevel({f"w{number}": number for number in range(WORDS)}, unk_token="w0"))
        plain.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="w0", eos_token="w1", unk_token="w0")
        rows = [{"text": " ".join(f"w{(i * (j + 1)) % WORDS}" for i in range(LENGTH - 1))} for j in range(64)]
        link = MemoryLink()
        trainer = make_interactive(SFTTrainer)(
            model=gpt2(),
            args=SFTConfig(
                output_dir=str(tmp_path / name),
                max_steps=12,
                per_device_train_batch_size=4,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
                bf16=False,
                max_length=LENGTH,
                gradient_checkpointing=False,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            control=InteractiveSettings(serve=False),
            link=link,
        )
        return trainer, link

    return make


def losses(link: MemoryLink, branch: str) -> dict[int, float]:
    return {e.step or 0: e.body["loss"] for e in link.events if "loss" in e.body and e.branch == branch}


def test_an_sft_trainer_obeys_and_its_branch_equals_the_uninterrupted_run(made: Make) -> None:
    torch.manual_seed(0)
    whole, silent = made("whole")
    whole.train()
    trainer, link = made("steered")
    sent: dict[str, Any] = {}

    def load() -> None:
        uuid = link.outcome(sent["save"]).after["uuid"]
        sent["load"] = link.send("load_checkpoint", uuid=uuid, branch_name="b", save_first=False)

    steps: list[tuple[int, Callable[[], object]]] = [
        (4, lambda: sent.update(save=link.send("save_checkpoint"))),
        (5, lambda: sent.update(rate=link.send("update_optimizer", lr={"scale": 0.5}))),
        (8, load),
    ]
    for step, act in steps:
        trainer.callback_handler.callbacks.insert(0, At(step, act))
    trainer.train()
    assert {name: link.outcome(command).outcome for name, command in sent.items()} == dict.fromkeys(
        ("save", "rate", "load"), Outcome.SUCCESS
    )
    assert losses(link, "b") == {step: loss for step, loss in losses(silent, "main").items() if step > 4}
