"""The diffusion objective on a tiny UNet: it learns, knows its sources, and its folders are diffusers' own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file

from control import Command, EventType, Outcome
from dataset import InteractiveMixture, make_interactive_dataset
from publish import Outbox
from tests.trainer.trainings import Run
from trainer import Checkpoints, DiffusionTrainer, EmaSettings, InteractiveSettings, SettingsInvalid, make_interactive
from trainer.randomness import undisturbed

Training = Callable[..., Run]
SIZE = 8


class Squares(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Frames with one bright square; the condition says where it is."""

    def __init__(self, count: int = 32, bright: float = 1.0) -> None:
        self.count, self.bright = count, bright

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        frame, where = torch.full((1, SIZE, SIZE), -1.0), torch.zeros(1, SIZE, SIZE)
        row, column = 2 * (index % 4), 2 * (index // 4 % 4)
        frame[:, row : row + 2, column : column + 2] = self.bright
        where[:, row : row + 2, column : column + 2] = 1.0
        return {"sample": frame, "condition": where}


def unet() -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=SIZE,
        in_channels=2,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )


def scheduler(prediction: str = "sample") -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=50, prediction_type=prediction)


def frames(**weights: float) -> InteractiveMixture:
    return make_interactive_dataset(
        {"light": Squares(), "dark": Squares(bright=0.0)}, weights or {"light": 1, "dark": 0}
    )


def diffusion(make: Training, *given: Any, prediction: str = "sample", **named: Any) -> Run:
    settled: dict[str, Any] = {
        "trainer_class": DiffusionTrainer,
        "model": unet(),
        "train_dataset": frames(),
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-3,
        "trainer": {"noise_scheduler": scheduler(prediction)},
        "lr_scheduler_type": "constant",
    }
    return make(*given, **(settled | named))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_it_learns_whatever_it_predicts(training: Training, prediction: str) -> None:
    run = diffusion(training, prediction=prediction, max_steps=60)
    run.train()
    losses = list(run.metric("loss").values())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_another_prediction_is_refused_by_name(tmp_path: Path) -> None:
    wrong = scheduler()
    wrong.register_to_config(prediction_type="noise")
    with pytest.raises(SettingsInvalid, match="prediction_type is 'noise', but it is one of epsilon"):
        DiffusionTrainer(model=unet(), noise_scheduler=wrong)


def test_the_loss_is_told_by_source(training: Training) -> None:
    run = diffusion(training, train_dataset=frames(light=1, dark=1), max_steps=6)
    run.train()
    for event in run.link.events:
        if event.type is EventType.METRICS and "loss" in event.body:  # health has numbers of its own
            told = [event.body[f"loss/{name}"] for name in ("light", "dark")]
            assert min(told) <= event.body["loss"] <= max(told)


def test_weights_of_elements_and_samples_count(training: Training) -> None:
    run = diffusion(training, max_steps=1)
    trainer = run.trainer
    batch = torch.utils.data.default_collate([Squares()[index] for index in range(4)])
    half = {**batch, "weight": torch.full((4, 1, SIZE, SIZE), 0.5)}
    first = {**batch, "loss_weight": torch.tensor([1.0, 0.0, 0.0, 0.0])}

    def loss(inputs: dict[str, torch.Tensor]) -> Any:
        with undisturbed(3), torch.no_grad():
            return trainer.compute_loss(trainer.model.eval(), inputs, return_outputs=True)

    plain, details = loss(batch)
    assert plain == pytest.approx(float(details["losses"].mean()))
    assert float(loss(half)[0]) == pytest.approx(float(plain) / 2, rel=1e-5)
    assert float(loss(first)[0]) == pytest.approx(float(details["losses"][0]), rel=1e-5)


def test_two_evaluations_of_the_same_weights_are_equal(training: Training) -> None:
    run = diffusion(training, eval_dataset=Squares(16), max_steps=4, remove_unused_columns=False)
    both = [run.send_at(2, "do_evaluate"), run.send_at(2, "do_evaluate")]
    run.train()
    first, second = (run.report(sent).after["eval_loss"] for sent in both)
    assert first == second > 0


def test_a_checkpoint_is_a_folder_that_diffusers_reads(training: Training) -> None:
    run = diffusion(training, max_steps=3)
    sent = run.send_at(3, "save_checkpoint")
    run.train()
    folder = run.report(sent).after["path"]
    model = UNet2DModel.from_pretrained(folder)
    for name, tensor in run.trainer.model.state_dict().items():
        assert model.state_dict()[name].equal(tensor), name
    assert DDPMScheduler.from_pretrained(folder).config.prediction_type == "sample"


def test_a_branch_of_a_diffusion_run_with_ema_equals_the_uninterrupted_one(training: Training) -> None:
    settings = {"ema": EmaSettings(decay=0.8)}
    whole = diffusion(training, train_dataset=frames(light=1, dark=1), settings=settings)
    whole.send_at(12, "save_checkpoint")
    whole.train()
    run = diffusion(training, train_dataset=frames(light=1, dark=1), settings=settings)
    run.send_at(12, "save_checkpoint")
    save = run.send_at(5, "save_checkpoint")
    load: list[Command] = []
    run.at(
        9, lambda: load.append(run.link.send("load_checkpoint", uuid=run.report(save).after["uuid"], branch_name="b"))
    )
    run.train()
    assert run.report(load).outcome is Outcome.SUCCESS
    assert run.metric("loss", "b") == {step: loss for step, loss in whole.metric("loss").items() if step > 5}
    ends = [Checkpoints(each.trainer.steering.folder).all()[-1].path for each in (whole, run)]
    for name in ("diffusion_pytorch_model.safetensors", "ema.safetensors"):
        first, second = (load_file(folder / name) for folder in ends)
        assert all(first[tensor].equal(second[tensor]) for tensor in first), name


def test_the_averaged_weights_are_evaluated_and_the_own_ones_trained_on(training: Training) -> None:
    run = diffusion(
        training, settings={"ema": EmaSettings(decay=0.99)}, eval_dataset=Squares(16), remove_unused_columns=False
    )
    seen: list[bool] = []
    evaluated = run.send_at(8, "do_evaluate")

    def compare() -> None:
        steering = run.trainer.steering
        own = {name: tensor.clone() for name, tensor in run.trainer.model.named_parameters()}
        with steering.ema.applied():
            seen.append(all(p.equal(steering.ema.tensors()[n]) for n, p in own.items()))
            seen.append(any(not p.equal(own[n]) for n, p in run.trainer.model.named_parameters()))
        seen.append(all(p.equal(own[n]) for n, p in run.trainer.model.named_parameters()))

    run.at(8, compare)
    run.train()
    assert seen == [True, True, True]  # swapped in, and out again to the bit
    assert run.report(evaluated).outcome is Outcome.SUCCESS


def test_the_average_follows_its_formula(training: Training) -> None:
    run = diffusion(training, settings={"ema": EmaSettings(decay=0.5)}, max_steps=6)
    name, parameter = next(iter(run.trainer.model.named_parameters()))
    averages: list[torch.Tensor] = []

    def expected(step: int) -> None:
        # decay of update n (from 1): the first copies, then at most n / (n + 9)
        decay = min(0.5, step / (step + 9)) if step > 1 else 0.0
        averages.append(
            decay * averages[-1] + (1 - decay) * parameter.detach() if averages else parameter.detach().clone()
        )
        assert torch.allclose(run.trainer.steering.ema.tensors()[name], averages[-1], atol=1e-7)

    run.on("on_step_end", expected)
    run.train()
    assert len(averages) == 6


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def test_published_weights_are_the_averaged_ones_with_what_they_were_trained_on(
    training: Training, outbox: Path
) -> None:
    run = diffusion(
        training,
        settings={"ema": EmaSettings(decay=0.9), "outbox": outbox, "publish": {"steps": 5}, "run": "squares"},
        train_dataset=frames(light=3, dark=1),
    )
    asked = run.send_at(7, "publish_checkpoint", channel="candidate")
    average: dict[str, torch.Tensor] = {}
    run.on(
        "on_step_end",
        lambda step: (
            average.update({k: v.clone() for k, v in run.trainer.steering.ema.tensors().items()}) if step == 7 else None
        ),
    )
    run.train()
    entries = Outbox(outbox).pending()
    assert [(entry.ticket.step, entry.ticket.channel) for entry in entries] == [
        (5, "stable"),
        (7, "candidate"),
        (12, "stable"),
    ]
    entry = entries[1]
    ticket = entry.ticket
    assert (ticket.run, ticket.branch, ticket.segment, ticket.ema) == ("squares", "main", "s000001", True)
    assert ticket.command == asked[0].uuid
    assert ticket.weights == {"light": 3, "dark": 1}
    assert set(ticket.consumed["sources"]) == {"light", "dark"}
    assert set(ticket.watermark) == {"light", "dark"}
    assert set(entry.files) == {"config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"}
    published = load_file(entry.files["diffusion_pytorch_model.safetensors"])
    assert all(published[name].equal(tensor) for name, tensor in average.items())
    assert UNet2DModel.from_pretrained(entry.path / "files").config.sample_size == SIZE
    report = run.report(asked)
    assert (report.outcome, report.after) == (Outcome.SUCCESS, {"channel": "candidate", "entry": entry.path.name})


def test_publishing_a_language_model_leaves_out_what_no_version_may_hold(training: Training, outbox: Path) -> None:
    run = training(settings={"outbox": outbox}, max_steps=2)
    run.send_at(1, "publish_checkpoint")
    run.train()
    (entry,) = Outbox(outbox).pending()
    assert set(entry.files) == {"config.json", "generation_config.json", "model.safetensors"}
    assert not entry.ticket.ema


def test_publishing_without_an_outbox_is_rejected(training: Training) -> None:
    run = training(max_steps=2)
    sent = run.send_at(1, "publish_checkpoint")
    run.train()
    assert run.report(sent).outcome is Outcome.REJECTED
    assert "set `outbox`" in run.report(sent).reason


def test_a_version_names_the_chain_that_it_comes_from(training: Training, outbox: Path) -> None:
    run = training(settings={"outbox": outbox})
    save = run.send_at(3, "save_checkpoint")
    run.at(6, lambda: run.link.send("load_checkpoint", uuid=run.report(save).after["uuid"], branch_name="b"))
    run.send_at(9, "publish_checkpoint")
    run.train()
    (entry,) = Outbox(outbox).pending()
    assert (entry.ticket.segment, entry.ticket.branch) == ("s000002", "b")
    assert [(ancestor.segment, ancestor.step) for ancestor in entry.ticket.ancestors] == [("s000001", 3)]


def test_the_class_stays_a_plain_trainer_without_steering(tmp_path: Path) -> None:
    assert make_interactive(DiffusionTrainer) is make_interactive(DiffusionTrainer)
    assert issubclass(make_interactive(DiffusionTrainer), DiffusionTrainer)
    assert InteractiveSettings().ema is None
