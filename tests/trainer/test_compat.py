"""Fails loudly when transformers moves what this room stands on."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import CallbackHandler, TrainerControl

import trainer as room
from control import Outcome
from tests.trainer.trainings import Run, Sentences, arguments, gpt2
from trainer import Checkpoints, InteractiveSettings, MemoryLink, SettingsInvalid, make_interactive
from trainer.checkpoints import TRAINER_STATE_NAME as OUR_NAME
from trainer.compat import PRIVATE, PUBLIC

ROOM = Path(inspect.getfile(room)).parent
MOVED = "transformers has moved {}: look at what it does now, and mend trainer/compat.py and whoever uses it"


@pytest.mark.parametrize(("name", "parameters"), [*PRIVATE.items(), *PUBLIC.items()])
def test_the_methods_of_trainer_are_there_with_these_parameters(name: str, parameters: tuple[str, ...]) -> None:
    method = getattr(Trainer, name, None)
    assert method is not None, MOVED.format(name)
    assert tuple(inspect.signature(method).parameters) == parameters, MOVED.format(name)


def test_names_beside_methods() -> None:
    assert OUR_NAME == TRAINER_STATE_NAME
    assert callable(PreTrainedModel._init_weights)
    for flag in ("should_log", "should_evaluate", "should_save", "should_training_stop", "should_epoch_stop"):
        assert hasattr(TrainerControl(), flag), MOVED.format(flag)
    assert "callbacks" in inspect.getsource(CallbackHandler.call_event)


def test_no_private_name_of_transformers_is_used_elsewhere() -> None:
    """Nothing in this room but compat.py reaches for an underscore of a trainer."""
    for path in sorted(ROOM.rglob("*.py")):
        if path.name == "compat.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                assert not hasattr(Trainer, node.attr), f"{path.name}:{node.lineno} uses {node.attr}"


def test_the_loop_asks_in_this_order(training: Callable[..., Run]) -> None:
    """What is fetched, trained, stepped and saved, and when; everything here rests on it."""
    order: list[str] = []

    class Watched(Trainer):
        def get_batch_samples(self, *given: Any) -> Any:
            order.append("fetch")
            return super().get_batch_samples(*given)

        def training_step(self, *given: Any, **named: Any) -> Any:
            order.append("train")
            return super().training_step(*given, **named)

        def _save_checkpoint(self, *given: Any, **named: Any) -> None:
            order.append("save")
            super()._save_checkpoint(*given, **named)

    class Watches(TrainerCallback):
        pass

    watches = Watches()
    for event in (
        "on_train_begin",
        "on_step_begin",
        "on_optimizer_step",
        "on_step_end",
        "on_epoch_end",
        "on_train_end",
    ):
        setattr(watches, event, _remembering(order, event))
    run = training(
        trainer_class=Watched,
        trainer={"callbacks": [watches]},
        gradient_accumulation_steps=2,
        max_steps=2,
        save_strategy="steps",
        save_steps=1,
    )
    run.train()
    step = ["fetch", "on_step_begin", "train", "train", "on_optimizer_step", "on_step_end", "save"]
    assert order == ["on_train_begin", *step, *step, "on_epoch_end", "on_train_end"]


def _remembering(order: list[str], event: str) -> Callable[..., None]:
    def remember(*_: Any, **__: Any) -> None:
        order.append(event)

    return remember


def test_a_checkpoint_of_ours_goes_on_in_a_plain_trainer(training: Callable[..., Run], tmp_path: Path) -> None:
    whole = training()
    whole.train()
    run = training()
    sent = run.send_at(5, "save_checkpoint")
    run.train()
    plain = Trainer(model=gpt2(), args=run.trainer.args, train_dataset=Sentences())
    plain.train(resume_from_checkpoint=run.report(sent).after["path"])
    assert plain.state.global_step == 12
    for name, parameter in whole.trainer.model.named_parameters():
        assert parameter.equal(plain.model.get_parameter(name)), name


def test_a_checkpoint_of_a_plain_trainer_goes_on_here(training: Callable[..., Run], tmp_path: Path) -> None:
    whole = training()
    whole.train()
    folder = tmp_path / "plain"
    run = training(folder)
    args = run.trainer.args
    args.save_strategy, args.save_steps = type(args.save_strategy)("steps"), 5
    plain = Trainer(model=gpt2(), args=args, train_dataset=Sentences())
    plain.train()
    run.train(resume=str(folder / "checkpoint-5"))
    assert run.metric("loss") == {step: loss for step, loss in whole.metric("loss").items() if step > 5}
    (segment,) = run.trainer.steering.folder.segments()
    assert segment.parent is not None
    assert (segment.reason.value, segment.parent.segment, segment.parent.step) == ("load", None, 5)


def test_a_sequence_to_sequence_trainer_is_steered_too(tmp_path: Path) -> None:
    plain = arguments(tmp_path, max_steps=4)
    names = ("max_steps", "learning_rate", "seed", "use_cpu", "disable_tqdm")
    kept = {name: plain.to_dict()[name] for name in names}
    args = Seq2SeqTrainingArguments(output_dir=str(tmp_path), report_to=[], save_strategy="no", **kept)
    link = MemoryLink()
    steered = make_interactive(Seq2SeqTrainer)(
        model=gpt2(), args=args, train_dataset=Sentences(), control=InteractiveSettings(), link=link
    )
    sent = link.send("save_checkpoint")
    steered.train()
    assert link.outcome(sent).outcome is Outcome.SUCCESS
    assert type(steered).__name__ == "InteractiveSeq2SeqTrainer"
    assert len(Checkpoints(steered.steering.folder).all()) == 1


def test_what_is_no_trainer_class_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="is not a transformers Trainer class"):
        make_interactive(dict)
    again = make_interactive(Trainer)
    assert make_interactive(again) is again
