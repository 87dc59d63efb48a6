"""The paper's paths and shapes, as clients written for the authors' server use them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from control import Command, CommandKind, EventType, FakeActor, FakeCommand, Outcome, Report, RunStatus, Status
from control.bodies import BranchBody, CheckpointBody, RunBody
from control.fake import TRAINER
from tests.control.conftest import Serve
from tests.control.servers import HTTP, Served
from tests.waiting import until


@pytest.fixture
def paper(serve: Serve) -> Iterator[Served]:
    """A server that lets the paper's clients in, and a trainer that forks on every load."""
    served = serve(paper_clients=True)

    def load(command: Command) -> Report:
        told = BranchBody(segment="s2", parent="s1", forked_at=3, reason="load")
        trainer.connection.tell(EventType.BRANCH, told, branch=command.arguments.get("branch_name") or "made-up")
        return Report(uuid=command.uuid, status=Status.SUCCESS, outcome=Outcome.SUCCESS, step=3)

    tree = {
        "name": "Model",
        "module_type": "GPT2",
        "children": [{"name": "lm_head", "module_type": "Linear", "children": []}],
    }
    state = {
        "info": {"start_time": 1763800000.0},
        "optimizer": {"lr": 1e-5, "weight_decay": 0.01},
        "dataset": {"initialization_parameters": {"path": "x"}, "interactive_parameters": {"sample_prob": [0.9, 0.1]}},
        "model": tree,
    }
    fakes = {**TRAINER, "load_checkpoint": FakeCommand(load, CommandKind.RESTORE)}
    trainer = FakeActor(served.url, served.tokens.operate, commands=fakes, state=state)
    with trainer:
        trainer.connection.tell(EventType.RUN, RunBody(status=RunStatus.RUNNING))
        trainer.connection.tell(EventType.BRANCH, BranchBody(segment="s1"))
        for step in range(1, 6):
            trainer.connection.tell(EventType.METRICS, {"loss": 1 / step, "grad_norm": float("nan")}, step=step)
        saved = CheckpointBody(uuid="c3", path="/runs/demo/checkpoint-3", segment="s1")
        trainer.connection.tell(EventType.CHECKPOINT, saved, step=3)
        until(lambda: served.client.run("demo").checkpoints)
        yield served


def get(served: Served, path: str) -> Any:
    answer = HTTP.get(served.url + path)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def post(served: Served, command: str, args: object = "", uuid: str = "", **more: object) -> dict[str, Any]:
    body = {"command": command, "args": args, "time": time.time(), "uuid": uuid, "status": "requested", **more}
    answer = HTTP.post(served.url + "/api/command/", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


def outcome(served: Served, uuid: str) -> tuple[Outcome | None, str]:
    def done() -> tuple[Outcome | None, str] | None:
        for record in served.client.commands("demo").commands:
            if record.client_uuid == uuid or record.uuid == uuid:
                return (record.outcome, record.reason) if record.outcome else None
        return None

    return until(done)


def test_the_info_paths_have_the_shapes_of_the_authors_server(paper: Served) -> None:
    assert get(paper, "/api/get_info/") == {"run_name": "demo", "start_time": 1763800000.0, "status": "running"}
    assert get(paper, "/api/get_optimizer_info/") == {"lr": 1e-5, "weight_decay": 0.01}
    assert get(paper, "/api/get_dataset_info/") == {
        "initialization_parameters": {"path": "x"},
        "interactive_parameters": {"sample_prob": [0.9, 0.1]},
    }
    assert get(paper, "/api/get_model_info/")["children"][0]["name"] == "lm_head"
    [checkpoint] = get(paper, "/api/get_checkpoints/")
    assert checkpoint["uuid"] == "c3"
    assert checkpoint["checkpoint_dir"] == "/runs/demo/checkpoint-3"
    assert checkpoint["global_step"] == 3
    assert isinstance(checkpoint["time"], float)


def test_the_logs_hold_every_branch_and_null_for_what_is_no_number(paper: Served) -> None:
    logs = get(paper, "/api/get_logs/")
    assert (logs["local_step"], logs["current_branch"]) == (5, "main")
    assert [point["local_step"] for point in logs["branched_logs"]["main"]] == [1, 2, 3, 4, 5]
    assert logs["branched_logs"]["main"][1]["metrics"] == {"loss": 0.5, "global_step": 2}
    assert logs["branch_info"]["main"]["parent"] is None
    post(paper, "load_checkpoint", json.dumps({"uuid": "c3", "branch_name": "try-2"}), "load")
    assert outcome(paper, "load")[0] is Outcome.SUCCESS
    logs = get(paper, "/api/get_logs/")
    assert logs["current_branch"] == "try-2"
    assert logs["branch_info"]["try-2"]["parent"] == "main"
    assert logs["branch_tree"] == {"main": ["try-2"], "try-2": []}


def test_a_paused_run_says_so(paper: Served) -> None:
    with connect(paper.url.replace("http", "ws") + "/ws/message/") as line:
        post(paper, "pause_training", "{}", "p")
        states = [json.loads(line.recv(timeout=5)) for _ in range(3)]
    assert [(told["command"], told["status"]) for told in states] == [
        ("pause_training", "requested"), ("pause_training", "pending"), ("pause_training", "success"),
    ]  # fmt: skip


def test_empty_and_missing_arguments_are_accepted(paper: Served) -> None:
    for args in ("", None, "{}", "null"):
        assert post(paper, "save_checkpoint", args, f"save-{args}")["status"] == "success"
        assert outcome(paper, f"save-{args}")[0] is Outcome.SUCCESS


def test_one_uuid_and_one_old_time_for_every_command_of_a_kind_works(paper: Served) -> None:
    for value in (1e-4, 1e-5):
        args = json.dumps({"lr": {"value": value}})
        assert post(paper, "update_optimizer", args, "always-the-same", time=1.0)["status"] == "success"
        until(lambda: outcome(paper, "always-the-same")[0] is Outcome.SUCCESS)
        assert post(paper, "pause_training", "", "")["uuid"] == ""
        assert post(paper, "resume_training", "", "")["uuid"] == ""
    until(lambda: all(record.outcome is Outcome.SUCCESS for record in paper.client.commands("demo").commands))
    page = paper.client.commands("demo")
    turns = [record for record in page.commands if record.command == "update_optimizer"]
    assert [turn.arguments["lr"]["value"] for turn in turns] == [1e-5, 1e-4]
    assert len({turn.uuid for turn in turns}) == 2


def test_a_uuid_that_is_still_open_is_the_same_command(serve: Serve) -> None:
    served = serve(paper_clients=True)
    with FakeActor(served.url, served.tokens.operate, commands={"slow": FakeCommand(lambda command: None)}) as actor:
        for _ in range(3):
            assert post(served, "slow", "", "one")["status"] == "success"
        until(lambda: actor.taken)
        assert len(served.client.commands().commands) == 1


def test_milliseconds_are_understood(paper: Served) -> None:
    post(paper, "save_checkpoint", "", "ms", time=time.time() * 1000)
    outcome(paper, "ms")
    [record] = [r for r in paper.client.commands("demo").commands if r.client_uuid == "ms"]
    assert abs(record.time - time.time()) < 60


def test_what_the_authors_server_died_of_is_turned_down_with_a_reason(paper: Served) -> None:
    schema = {
        "type": "object",
        "properties": {"lr": {"type": "object", "properties": {"value": {"type": "number"}}}},
        "additionalProperties": False,
    }
    fakes = {"update_optimizer": FakeCommand(arguments=schema)}
    with FakeActor(paper.url, paper.tokens.operate, actor="second", kind="other", commands={"x": FakeCommand()}):
        pass
    with FakeActor(paper.url, paper.tokens.operate, commands=fakes):
        for number, args in enumerate(
            ('{"lr": 1e-4, "weight_decay": 0.01}', '{"lr": {"value": "abc"}}', "[1]", "{", '"x"')
        ):
            answer = post(paper, "update_optimizer", args, f"bad-{number}")
            assert answer["status"] == "error"
            assert answer["message"]
            assert outcome(paper, f"bad-{number}")[0] is Outcome.REJECTED
    deep = '{"a":' * 100_000
    assert post(paper, "save_checkpoint", deep, "deep")["status"] == "error"
    assert post(paper, "sav_checkpoint")["message"].endswith("did you mean 'save_checkpoint'?")


def test_messages_have_the_authors_shape(paper: Served) -> None:
    with connect(paper.url.replace("http", "ws") + "/ws/message/?since=0") as line:
        told = [json.loads(line.recv(timeout=5)) for _ in range(6)]
        assert all(set(message) == {"command", "args", "uuid", "time", "status"} for message in told)
        logged = [json.loads(message["args"]) for message in told if message["command"] == "log_update"]
        assert [point["local_step"] for point in logged] == [1, 2, 3, 4, 5]
        assert logged[0]["branch_id"] == "main"
        assert logged[0]["metrics"]["loss"] == 1.0
        [saved] = [message for message in told if message["command"] == "checkpoint_info_update"]
        assert json.loads(saved["args"])["uuid"] == "c3"
        post(paper, "load_checkpoint", json.dumps({"uuid": "c3"}), "load")
        while (message := json.loads(line.recv(timeout=5)))["status"] != "success":
            assert message["uuid"] == "load"
    assert json.loads(message["args"])["branch_info"] == {
        "id": "made-up", "wall_time": pytest.approx(time.time(), abs=60), "parent": "main",
    }  # fmt: skip


def test_without_the_setting_the_papers_paths_need_a_token_too(served: Served) -> None:
    assert HTTP.get(served.url + "/api/get_info/").status_code == 401
    headers = {"Authorization": f"Bearer {served.tokens.read}"}
    answer = HTTP.get(served.url + "/api/get_info/", headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (404, "no trainer has connected yet")


def test_the_waiver_does_not_hold_for_another_name_or_another_page(paper: Served) -> None:
    rebound = HTTP.get(paper.url + "/api/get_info/", headers={"Host": "evil.example"})
    assert rebound.status_code == 401
    foreign = HTTP.get(paper.url + "/api/get_info/", headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert HTTP.get(paper.url + "/api/v1/runs").status_code == 401
