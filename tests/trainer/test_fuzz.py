"""Commands of every kind, valid, invalid and hostile, from several senders at once, into a real training with workers."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer

from auth import Scope, TokenStore
from control import ControlClient, ControlSettings, Outcome, Refused
from control.server import ControlThread
from dataset import make_interactive_dataset
from tests.trainer.trainings import Sentences, arguments, gpt2
from tests.waiting import until
from trainer import EmaSettings, InteractiveSettings, RunFolder, make_interactive

logger = logging.getLogger(__name__)

SENDERS = 4
LAYERS = ("", "transformer.h.0", "transformer.h.0.mlp", "transformer.h.0.mlp.c_fc", "transformer.drop", "lm_head")
HOSTILE: tuple[Any, ...] = (
    None, "", "../../../escaped", "/etc/passwd", "a\x00b", "💥" * 50, -1, 0, 1e308, -1e-308, 10**30, True, [], {}, [[]],
    {"value": "abc"}, {"value": {}}, {"scale": 0}, {"peak": -1}, "__class__", "save_pretrained", "x" * 5000, "\ud800",
)  # fmt: skip
NAMES = (
    "update_optimizer", "update_training", "save_checkpoint", "load_checkpoint", "delete_branch", "describe_branch",
    "pause_training", "resume_training", "start_training", "model_layer_operation", "model_layer_parameter_update",
    "update_dataset", "update_dataset_runtime_hyperparameters", "do_evaluate", "publish_checkpoint", "promote_version",
    "reset_layer", "save_checkpiont", "__import__",
)  # fmt: skip
FIELDS = (
    "lr", "momentum", "betas", "weight_decay", "eps", "max_grad_norm", "max_steps", "uuid", "branch_name", "branch",
    "title", "layer_name", "operation_name", "params", "param_name", "value", "weights", "temperature", "epochs", "seed",
    "channel", "save", "save_first", "command",
)  # fmt: skip


class Fuzz:
    """Makes commands, most of them wrong in some way."""

    def __init__(self, seed: int, client: ControlClient) -> None:
        self._random, self._client = random.Random(seed), client
        self._uuids: list[str] = []

    def next(self, last: int) -> tuple[str, dict[str, Any]]:
        """A command that no training may end by; `last` is its last step."""
        if self._random.random() < 0.45:
            return self._valid(last)
        name = self._random.choice(NAMES)
        fields = self._random.sample(FIELDS, self._random.randint(0, 3))
        given = {field: self._random.choice(HOSTILE) for field in fields}
        if self._random.random() < 0.5:
            given["layer_name"] = self._random.choice(LAYERS)
        return name, given

    def _valid(self, last: int) -> tuple[str, dict[str, Any]]:
        pick = self._random
        if pick.random() < 0.02 and (checkpoints := self._client.run("fuzz").checkpoints):
            return "load_checkpoint", {"uuid": pick.choice(checkpoints).uuid, "save_first": pick.random() < 0.5}
        return pick.choice(
            [
                ("update_optimizer", {"lr": {"value": 10 ** pick.uniform(-6, -3)}}),
                ("update_optimizer", {"weight_decay": pick.random(), "betas": [0.9, pick.random() * 0.9]}),
                ("update_optimizer", {"max_grad_norm": pick.random()}),
                ("update_dataset_runtime_hyperparameters", {"weights": {"a": pick.random(), "b": 0.1}}),
                ("update_training", {"max_steps": last}),
                ("model_layer_operation", {"layer_name": LAYERS[2], "operation_name": "reset_parameters"}),
                ("model_layer_parameter_update", {"layer_name": LAYERS[4], "param_name": "p", "value": pick.random()}),
                ("describe_branch", {"branch": "main", "note": "x"}),
                ("pause_training", {}),
                ("resume_training", {}),
                ("do_evaluate", {}),
                ("save_checkpoint", {}) if pick.random() < 0.1 else ("resume_training", {}),
            ]
        )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    tokens = TokenStore(tmp_path / "tokens.json")
    secret = tokens.mint("fuzz", [Scope.OPERATE])
    settings = ControlSettings(port=0, data=tmp_path / "control", commands_per_minute=1_000_000)
    with ControlThread(settings, tokens) as server:
        yield server.url, secret


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(500, marks=pytest.mark.timeout(600)),
        pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_whatever_is_sent_training_reaches_its_last_step(served: tuple[str, str], tmp_path: Path, count: int) -> None:
    url, secret = served
    place = tmp_path / "place"
    folder = place / "run"
    data = make_interactive_dataset({"a": Sentences(512), "b": Sentences(64, first=9)}, {"a": 1, "b": 1}, workers=2)
    settings = {"url": url, "token": secret, "run": "fuzz", "folder": folder, "keep_checkpoints": 3}
    trainer: Any = make_interactive(Trainer)(
        model=gpt2(),
        args=arguments(place / "out", max_steps=1_000_000, lr_scheduler_type="cosine"),
        train_dataset=data,
        eval_dataset=Sentences(4),
        control=InteractiveSettings.model_validate(settings | {"ema": EmaSettings()}),
    )
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(place)}
    thread = threading.Thread(target=trainer.train, daemon=True)
    thread.start()
    sent, refused = Counter[str](), Counter[int]()

    def send(seed: int) -> None:
        with ControlClient(url, secret) as client:
            fuzz = Fuzz(seed, client)
            for number in range(count // SENDERS):
                name, given = fuzz.next(1_000_000)
                uuid = f"{seed}-{number}"
                try:
                    client.send(
                        name, given, run="fuzz", uuid=uuid, wait=number % 10 == 0, timeout=120, dry_run=number % 17 == 0
                    )
                    sent[uuid] += 1
                except (Refused, UnicodeEncodeError, ValueError) as error:  # what no JSON can say, or no name can be
                    refused[getattr(error, "status", 0)] += 1

    with ControlClient(url, secret) as client:
        until(lambda: bool(client.runs().runs) and (client.run("fuzz").step or 0) > 0)
        senders = [threading.Thread(target=send, args=(seed,), daemon=True) for seed in range(SENDERS)]
        for sender in senders:
            sender.start()
        paused = threading.Event()

        def keep_going() -> None:
            """Somebody always resumes what somebody has paused, so that those who wait for an outcome get one."""
            while not paused.wait(0.5):
                client.send("resume_training", run="fuzz", wait=False)

        keeper = threading.Thread(target=keep_going, daemon=True)
        keeper.start()
        for sender in senders:
            sender.join(3000)
            assert not sender.is_alive()
        paused.set()
        keeper.join(10)
        client.send("resume_training", run="fuzz")
        until(lambda: not any(e.outcome is None for e in client.audit("fuzz", limit=500).entries))
        last = int(trainer.state.global_step) + 20
        assert client.send("update_training", {"max_steps": last}, run="fuzz").outcome is Outcome.SUCCESS
        thread.join(120)
        assert not thread.is_alive()
        assert trainer.state.global_step == last

        record = RunFolder(folder).record()
        assert record is not None
        assert record.status.value == "finished"
        finals: Counter[str] = Counter()
        since, more = 0, True
        while more:
            page = client.history(since, run="fuzz", limit=5000)
            for event in page.events:
                if event.type.value == "command" and event.body.get("outcome") is not None:
                    finals[event.body["uuid"]] += 1
            since, more = page.last, page.more
    counts = (sum(sent.values()), sum(refused.values()), len(finals), last)
    logger.info("%d commands were accepted and %d refused, %d have an outcome; %d steps", *counts)
    assert not any(refused[status] for status in refused if status >= 500)
    assert set(finals.values()) == {1}
    known = {uuid for uuid in sent if uuid in finals}
    assert len(known) >= 0.9 * len(sent)  # those for a run that nobody can tell are kept without one
    after = {path for path in tmp_path.rglob("*") if not path.is_relative_to(place)}
    assert {path for path in after - before if "control" not in path.parts} == set()
    assert {path.name for path in place.iterdir()} <= {"run", "out"}
    assert not list(tmp_path.parent.glob("escaped*"))
