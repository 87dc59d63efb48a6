"""Whatever a training says while it falls apart: every path answers, in JSON that any reader takes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from control import EventType, FakeActor, Outcome, Report, RunStatus, Status
from control.bodies import BranchBody, CheckpointBody, RunBody, VersionBody
from control.fake import TRAINER, FakeCommand
from control.openapi import document
from control.protocol import Command
from tests.control.conftest import Serve
from tests.control.servers import HTTP
from tests.control.test_samples import PICTURE
from tests.waiting import until

NAN, INF = math.nan, math.inf
BROKEN = {"loss": NAN, "grad_norm": INF, "learning_rate": 1e-3, "health/std/h.0": -INF}


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_every_path_answers_with_valid_json_while_training_diverges(serve: Serve) -> None:
    served = serve(paper_clients=True)
    told: dict[str, Any] = {"lr": NAN, "betas": [INF, -INF], "deep": {"eps": [NAN]}}

    def evaluate(command: Command) -> Report:
        return Report(
            uuid=command.uuid, status=Status.SUCCESS, outcome=Outcome.SUCCESS, step=3, before=told, after=told
        )

    state = {"optimizer": told, "dataset": {"interactive_parameters": told}, "info": told}
    state["model"] = {"name": "Model", "module_type": "GPT2", "children": [], "std": NAN}
    fakes = {**TRAINER, "do_evaluate": FakeCommand(evaluate)}
    with FakeActor(served.url, served.tokens.operate, commands=fakes, state=state) as trainer:
        line = trainer.connection
        line.tell(EventType.RUN, RunBody(status=RunStatus.RUNNING))
        line.tell(EventType.BRANCH, BranchBody(segment="s1"))
        for step in range(1, 4):
            line.tell(EventType.METRICS, BROKEN, step=step)
        line.tell(EventType.EVALUATION, {"eval_loss": NAN}, step=3)
        line.tell(EventType.HEALTH, {"check": "not_finite", "message": "NaN", "value": NAN}, step=3)
        line.tell(EventType.MIXTURE, {"version": 1, "sources": {"live": {"weight": 1.0, "samples_per_second": NAN}}})
        line.tell(EventType.CHECKPOINT, CheckpointBody(uuid="c3", path="/c3", segment="s1"), step=3)
        line.tell(EventType.FOLLOWER, {"follower": "app", "version": 1, "lag": NAN})
        record = served.client.send("do_evaluate", run="demo")
        assert record.after == {"lr": None, "betas": [None, None], "deep": {"eps": [None]}}
        line.tell(EventType.VERSION, VersionBody(version=1, action="published"), step=3)
        until(lambda: served.client.run("demo").checkpoints)
        until(lambda: served.client.versions("demo").versions)
        (picture,) = served.client.show_samples("demo", 1, {"all black": PICTURE}).samples

        asked = 0
        for path, methods in document()["paths"].items():  # type: ignore[attr-defined]
            if "get" not in methods:
                continue
            where = served.url + path.format(run="demo", uuid=record.uuid, sha256=picture.sha256)
            answer = HTTP.get(
                where,
                params={"run": "demo"} if path == "/api/v1/metrics/series" else {},
                headers={"Authorization": f"Bearer {served.tokens.operate}"},
            )
            assert answer.status_code == 200, (path, answer.text)
            if "json" in answer.headers["content-type"]:
                strict(answer.text)
            asked += 1
        assert asked > 20
        assert served.client.series("demo", ["loss"]).series[0].mean == (None, None, None)
