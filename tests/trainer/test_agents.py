"""Agents over a real training, a real server between them: a run that is spoilt recovers by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr
from transformers import Trainer

from auth import Scope, TokenStore
from control import ControlClient, ControlSettings, EventType, Outcome, RunStatus
from control.agents import (
    Agents,
    AgentSettings,
    DataAgent,
    DataSettings,
    Limits,
    Mode,
    Policy,
    RulesSettings,
    Spike,
    rules,
)
from control.agents.rules import SpikeSettings
from control.server import ControlThread
from dataset import make_interactive_dataset
from tests.trainer.test_diffusion import SIZE, Squares, scheduler, unet
from tests.trainer.trainings import At, Sentences, arguments, gpt2
from tests.waiting import until
from trainer import DiffusionTrainer, EmaSettings, InteractiveSettings, make_interactive
from trainer.settings import Every

ACT = AgentSettings(mode=Mode.ACT, every=1, limits=Limits(per_hour=None, budget=20))


class Live:
    """A server, a training on it that goes on until it is told to stop, and agents beside it."""

    def __init__(
        self,
        folder: Path,
        trainer: type[Trainer] = Trainer,
        every: int | None = 10,
        ema: EmaSettings | None = None,
        **made_with: Any,
    ) -> None:
        tokens = TokenStore(folder / "tokens.json")
        self.token = tokens.mint("ops", [Scope.OPERATE])
        self.thread = ControlThread(ControlSettings(port=0, data=folder / "control"), tokens).start()
        self.client = ControlClient(self.thread.url, self.token)
        settings = InteractiveSettings(
            url=self.thread.url, token=SecretStr(self.token), run="demo", checkpoint=Every(steps=every), ema=ema
        )
        settled: dict[str, Any] = {"model": gpt2(), "train_dataset": Sentences()} | made_with
        self.trainer = make_interactive(trainer)(
            args=arguments(folder / "run", max_steps=1_000_000), control=settings, **settled
        )
        self._training = threading.Thread(target=self.trainer.train, daemon=True)
        self._agents: list[Agents] = []

    def at(self, step: int, action: Callable[[], object]) -> None:
        """Do something once, at the end of a step."""
        self.trainer.callback_handler.callbacks.insert(0, At(step, action))

    def begin(self, settings: AgentSettings = ACT, **policies: Policy) -> None:
        """Train, under the eyes of agents."""
        agents = {name: (policy, settings) for name, policy in policies.items()}
        self._agents.append(Agents(self.thread.url, self.token, "demo", agents).start())
        self._training.start()

    def passes(self, step: int, branch: str | None = None) -> None:
        """Wait until training is beyond a step, with a loss that is a number."""

        def beyond() -> bool:
            run = self.client.run("demo")
            loss = run.metrics.values.get("loss") if run.metrics else None
            return (run.step or 0) > step and loss is not None and branch in (None, run.branch)

        until(beyond)

    def sent(self) -> list[tuple[str, str]]:
        """What agents sent and did, oldest first, with their authors."""
        records = self.client.commands(limit=200).commands
        return [
            (record.author, record.command)
            for record in reversed(records)
            if record.author.startswith(("rule:", "script:")) and record.outcome is Outcome.SUCCESS
        ]

    def close(self) -> None:
        self.client.send("stop_training")
        self._training.join(20)
        for agents in self._agents:
            agents.close()
        self.client.close()
        self.thread.stop()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path)
    yield made
    made.close()


class Noise(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Frames of which nothing can be known: their loss stays high."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        dice = torch.Generator().manual_seed(index)
        return {"sample": torch.randn(1, SIZE, SIZE, generator=dice), "condition": torch.zeros(1, SIZE, SIZE)}


def poison(live: Live) -> None:
    with torch.no_grad():
        live.trainer.model.transformer.h[0].mlp.c_fc.weight[0, 0] = float("nan")


def test_a_layer_that_holds_nan_is_left_behind(live: Live) -> None:
    live.at(45, lambda: poison(live))
    live.begin(rules=rules(RulesSettings()))

    until(lambda: ("rule:not_finite", "load_checkpoint") in live.sent())
    live.passes(60)

    run = live.client.run("demo")
    assert run.status is RunStatus.RUNNING
    assert run.branch != "main"
    assert 40 in {branch.forked_at for branch in run.branches}


def test_a_poisoned_checkpoint_is_left_behind_too(live: Live) -> None:
    live.at(40, lambda: poison(live))  # before the checkpoint of this step is saved
    live.begin(rules=rules(RulesSettings()))

    live.passes(60)

    loads = [sent for sent in live.sent() if sent == ("rule:not_finite", "load_checkpoint")]
    assert len(loads) == 2
    assert {branch.forked_at for branch in live.client.run("demo").branches} >= {40, 30}


def test_without_a_checkpoint_what_is_poisoned_begins_anew(tmp_path: Path) -> None:
    live = Live(tmp_path, every=None, ema=EmaSettings(decay=0.9))

    def tensors() -> list[torch.Tensor]:
        """The weights, what the optimizer remembers of them, and their average."""
        states = live.trainer.optimizer.optimizer.state.values()
        moments = [each for state in states for each in state.values() if isinstance(each, torch.Tensor)]
        return [*live.trainer.model.parameters(), *moments, *live.trainer.steering.ema.tensors().values()]

    def spoil() -> None:
        layer = live.trainer.model.transformer.h[0].mlp.c_fc
        with torch.no_grad():
            layer.weight[0, 0] = float("nan")
        live.trainer.optimizer.optimizer.state[layer.weight]["exp_avg_sq"].fill_(float("nan"))
        live.trainer.steering.ema.tensors()["transformer.h.0.mlp.c_fc.bias"].fill_(float("nan"))

    try:
        live.at(20, spoil)
        live.begin(rules=rules(RulesSettings()))
        until(lambda: ("rule:not_finite", "model_layer_operation") in live.sent())
        live.passes(60)
        assert live.client.run("demo").branch == "main"
        assert live.client.send("pause_training", run="demo").outcome is Outcome.SUCCESS
        assert all(bool(torch.isfinite(each).all()) for each in tensors())
    finally:
        live.close()


def test_a_mistake_of_an_operator_is_taken_back(live: Live) -> None:
    settings = SpikeSettings(window=20, patience=3)
    live.begin(rules=Spike(settings))
    live.at(50, lambda: live.client.send("update_optimizer", {"lr": {"value": 2.0}}, wait=False, run="demo"))

    until(lambda: ("rule:spike", "load_checkpoint") in live.sent())
    until(lambda: ("rule:spike", "update_optimizer") in live.sent())
    live.passes(80)

    rate = live.client.run("demo").optimizer["lr"]
    assert rate < 1e-3
    (told, *_) = [
        event.body for event in live.client.history(types=[EventType.AGENT]).events if event.body["action"] == "acted"
    ]
    assert "back to step" in told["explanation"]


def test_the_data_agent_moves_the_mixture_by_loss_within_its_bounds(tmp_path: Path) -> None:
    data = make_interactive_dataset({"plain": Squares(bright=-1.0), "noise": Noise()}, {"plain": 1, "noise": 1})
    live = Live(tmp_path, DiffusionTrainer, model=unet(), train_dataset=data, noise_scheduler=scheduler())
    limits = Limits(shares={"noise": (0.1, 0.7)}, share_move=0.1)
    try:
        settings = AgentSettings(mode=Mode.ACT, every=5, limits=limits)
        live.begin(settings, data=DataAgent(DataSettings(memory=0.5), limits))

        def share() -> float:
            mixture = live.client.run("demo").mixture
            return 0.0 if mixture is None else mixture.sources["noise"].share or 0.0

        until(lambda: share() > 0.65)

        assert share() <= 0.7 + 1e-6
        moves = [entry for entry in live.client.audit().entries if entry.author == "data:bandit"]
        assert all(entry.outcome in (Outcome.SUCCESS, Outcome.REJECTED) for entry in moves if entry.outcome)
        assert "most left to teach" in moves[0].note
    finally:
        live.close()
