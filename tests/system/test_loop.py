"""The whole service as a user runs it: a click on its way to the served weights, and an operator's every verb."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingest.types import SAMPLES
from publish import Manifest
from tests.system import reckoning
from tests.system.conftest import MakeService
from tests.system.crowd import one_visit
from tests.system.service import Service, answers, free_port
from tests.system.serving import Server
from tests.waiting import until
from trainer.checkpoints import Checkpoints
from trainer.journal import Trained, trained_in

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SLOWER = {"step": 1, "command": "update_optimizer", "arguments": {"lr": {"scale": 0.9}}, "why": "once, and a little"}
AGENTS = {"expert": {"kind": "script", "mode": "act", "script": [SLOWER]}}


@pytest.fixture(scope="module")
def service(make_service: MakeService) -> Service:
    """One service for all tests of this module, each of which leaves it training, on whatever branch."""
    made = make_service({"STOVETOP_TRAIN__METRICS_PORT": str(free_port()), "STOVETOP_AGENTS": json.dumps(AGENTS)})
    made.up()
    until(lambda: made.at_work("train"), "it trains")
    return made


def post(service: Service, seed: int, steps: int = 40) -> str:
    """Let one visitor come, and wait until all it did is acknowledged; returns the session's id."""
    return one_visit(service.doors.gateway, service.token, seed, steps)


def samples_of(service: Service, session_id: str) -> list[str]:
    logged = reckoning.read_log(service.log)
    return [sample.key for _, sample in logged.samples if sample.session_id == session_id]


def annotated(service: Service, session_id: str) -> bool:
    logged = reckoning.read_log(service.log)
    return len(logged.outcomes.get(session_id, [])) == len(logged.steps[session_id])


def trained(service: Service) -> Iterator[tuple[str, Trained]]:
    """Along the newest chain, the root first."""
    return reckoning.trained_up_to(service.run, service.run.segments()[-1].id)


def last_step(service: Service) -> int:
    return max((entry.step for entry in trained_in(service.run.folder_of(service.run.segments()[-1].id))), default=-1)


def step_told(done: subprocess.CompletedProcess[str]) -> int:
    """The step in the line that a command ends with."""
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^success .* at step (\d+)", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return int(found[1])


def test_a_click_reaches_the_served_weights(service: Service, tmp_path: Path) -> None:
    doors = service.doors
    with Server(Path(doors.hub), doors.channel, doors.public_key, tmp_path, service.root / "base") as server:
        session_id = post(service, seed=1)  # acknowledged
        until(lambda: annotated(service, session_id), "its samples stand in the topic", every=0.2)
        keys = samples_of(service, session_id)
        assert keys
        until(lambda: set(keys) <= set(reckoning.keys_of("live", trained(service))), "they were trained", every=0.2)
        steps = {key: (name, entry) for name, entry in trained(service) for key in entry.keys.get("live", ())}

        def version_with(key: str) -> Manifest | None:
            name, entry = steps[key]
            for manifest in reckoning.manifests(service.hub):
                chain = reckoning.trained_up_to(service.run, manifest.segment, manifest.step)
                if any((segment, other.step) == (name, entry.step) for segment, other in chain):
                    return manifest
            return None

        until(lambda: version_with(keys[-1]) is not None, "they are in a version", every=0.2)
        version = version_with(keys[-1])
        assert version is not None
        until(lambda: server.version >= version.version, "the version is served")
        until(lambda: server.served and server.served[-1] >= version.label, "it answers")
    logged = reckoning.read_log(service.log)
    received = max(step.received_at for step in logged.steps[session_id])
    put_out = _logged_at(service, session_id)
    assert received <= put_out <= steps[keys[-1]][1].time <= version.created_at
    reckoning.versions_hold_what_they_say(logged, service.run, [version])
    server.loaded_only_what_verifies()
    server.never_tore()


def scraped(service: Service) -> dict[tuple[str, str], float]:
    """What Prometheus would read of the trainer: values by metric and source."""
    port = service.environment["STOVETOP_TRAIN__METRICS_PORT"]
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
    assert answer.status_code == 200
    return {
        (sample.name.removeprefix("stovetop_mixture_"), sample.labels.get("source", "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_prometheus_scrapes_the_mixture_of_the_trainer(service: Service) -> None:
    until(lambda: ("samples_total", "") in scraped(service), "the first figures are told", every=0.2)
    first = scraped(service)
    shares = {source: value for (name, source), value in first.items() if name == "source_requested"}
    assert set(shares) == {"base", "history", "live"}
    assert sum(shares.values()) == pytest.approx(1)
    assert first["source_skipped_total", "live"] == 0
    until(lambda: scraped(service)["samples_total", ""] > first["samples_total", ""], "training goes on", every=0.2)
    step_told(service.cli("mix", "base=4"))
    until(lambda: scraped(service)["source_weight", "base"] == 4, "the new weight is told", every=0.2)
    assert scraped(service)["version", ""] > first["version", ""]
    step_told(service.cli("mix", "base=0.1"))


def test_a_mixture_shows_from_the_step_that_the_command_names(service: Service) -> None:
    session_id = post(service, seed=2)
    until(lambda: annotated(service, session_id), "its samples stand in the topic", every=0.2)
    until(lambda: any("history" in entry.keys for _, entry in trained(service)), "history is drawn from", every=0.2)
    began = last_step(service)
    only_history = service.cli("mix", "base=0", "live=0", "history=1", "--note", "the past only")
    at = step_told(only_history)
    until(lambda: last_step(service) >= at + 3, "some steps on it")
    both = step_told(service.cli("mix", "base=1", "history=1"))
    until(lambda: last_step(service) >= both + 15, "many steps on it")
    entries = {
        entry.step: Counter({name: len(keys) for name, keys in entry.keys.items()}) for _, entry in trained(service)
    }
    assert any("base" in entries[step] for step in range(max(1, began - 20), began + 1))
    assert {name for step in range(at, both) for name in entries[step]} == {"history"}
    assert {name for step in range(both, both + 15) for name in entries[step]} == {"history", "base"}
    drawn = sum((entries[step] for step in range(both, both + 15)), Counter())
    assert 0.35 < drawn["base"] / drawn.total() < 0.65
    step_told(service.cli("mix", "base=0.1", "history=0.2", "live=0.7"))


def test_a_paused_run_takes_no_step_and_goes_on_serving_commands(service: Service) -> None:
    paused_at = step_told(service.cli("pause"))
    done = service.cli("lr", "x0.5")
    assert done.returncode == 0, done.stdout
    assert f"from step {paused_at + 1} on" in done.stdout
    assert "paused, wanted paused" in service.cli("status").stdout
    assert last_step(service) == paused_at
    step_told(service.cli("resume"))
    until(lambda: last_step(service) > paused_at, "it goes on")
    assert "running, wanted running" in service.cli("status").stdout
    assert service.cli("lr", "1e-3").returncode == 0


def test_a_checkpoint_is_saved_and_loaded_as_a_new_branch(service: Service) -> None:
    saved = service.cli("save", "--note", "before it goes wrong")
    step = step_told(saved)
    uuid = Checkpoints(service.run).all()[-1].card.uuid
    assert uuid in saved.stdout
    until(lambda: last_step(service) > step + 2, "it has gone further")
    before = service.run.segments()[-1]
    loaded = service.cli("load", uuid, "--branch", "second-thoughts")
    assert loaded.returncode == 0, loaded.stdout
    segment = service.run.segments()[-1]
    assert segment.branch == "second-thoughts"
    assert segment.parent is not None
    assert (segment.parent.segment, segment.parent.step) == (before.id, step)
    until(lambda: last_step(service) > step, "it trains on the branch")
    assert min(entry.step for entry in trained_in(service.run.folder_of(segment.id))) == step + 1
    assert "branch second-thoughts" in service.cli("status").stdout
    reckoning.no_sample_was_trained_twice(service.run)


def test_every_command_is_told_and_kept_with_its_outcome(service: Service) -> None:
    evaluated = service.cli("eval", "--note", "how good is it")
    assert step_told(evaluated) > 0
    nonsense = service.cli("send", "updaet_optimizer", '{"lr": {"value": 1}}')
    assert nonsense.returncode == 1
    assert "update_optimizer" in nonsense.stdout + nonsense.stderr
    refused = service.cli("mix", "live=-1")
    assert refused.returncode == 1
    assert "at least 0" in refused.stdout
    audit = service.cli("audit").stdout.splitlines()
    assert any("do_evaluate" in line and "success" in line and "how good is it" in line for line in audit)
    assert any("live" in line and "rejected" in line for line in audit)


def test_agents_act_beside_it_and_a_killed_one_does_nothing_twice(service: Service) -> None:
    def acted() -> list[str]:
        return [line for line in service.cli("audit").stdout.splitlines() if "script:expert" in line]

    until(lambda: len(acted()) == 1, "the script's one line is sent", every=1.0)
    (line,) = acted()
    assert "success" in line
    assert "once, and a little" in line
    agents = service.role("agents")
    assert agents is not None
    agents.kill()
    until(lambda: service.role("agents") not in (None, agents) and service.at_work("agents"), "they are started again")
    off = service.cli("agent", "all", "off", "--note", "people only")  # taken by those that were started again
    assert off.returncode == 0, off.stdout + off.stderr
    until(lambda: "off" in service.cli("agent").stdout, "they are off", every=1.0)
    assert service.cli("agent", "all", "on").returncode == 0
    wrong = service.cli("agent", "expert", "limits", "max_lr=-1")
    assert wrong.returncode == 1
    assert "it is -1, but it is a learning rate above 0" in wrong.stdout
    assert service.cli("agent", "expert", "limits", "budget=30", "max_lr=none", "--note", "more of it").returncode == 0
    (budget,) = [line for line in service.cli("agent", "expert", "limits").stdout.splitlines() if "budget" in line]
    assert "30" in budget
    step = last_step(service)
    until(lambda: last_step(service) > step + 5, "it trains on, and is looked at")
    assert len(acted()) == 1


def test_a_stopped_run_stays_stopped_over_a_restart_until_it_is_started(service: Service) -> None:
    step = step_told(service.cli("stop", "--note", "enough"))
    until(lambda: service.role("train") is None, "the trainer ends")
    stopped = service.run.segments()[-1]
    assert service.interrupt() == 0
    assert service.family() == []
    service.up()
    for role in ("gateway", "pipeline", "control", "publish"):
        until(lambda role=role: service.at_work(role), f"{role} is at work")  # type: ignore[misc]
    assert service.role("train") is None
    assert "stopped, wanted stopped" in service.cli("status").stdout
    assert service.run.segments()[-1] == stopped
    started = service.cli("start")
    assert started.returncode == 0, started.stderr
    until(lambda: service.at_work("train"), "it trains again")
    resumed = service.run.segments()[-1]
    assert resumed.parent is not None
    assert resumed.branch == stopped.branch
    assert resumed.parent.segment == stopped.id
    assert resumed.parent.step >= step


def test_a_second_service_on_the_same_data_is_refused(service: Service) -> None:
    assert service.process is not None
    second = service.cli("up")
    assert second.returncode == 1
    assert f"up already runs on {service.data} (process {service.process.pid})" in second.stderr
    assert "Traceback" not in second.stderr
    assert answers(f"{service.doors.gateway}/readyz")
    assert service.doors.pid == service.process.pid


def test_ctrl_c_ends_everything(service: Service) -> None:
    until(lambda: service.at_work("train"), "it trains")
    gateway = service.doors.gateway
    assert service.interrupt() == 0
    assert service.family() == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{gateway}/livez", trust_env=False)
    reckoning.only_the_killed_died(service.warned.read_text(), Counter())
    newest = Checkpoints(service.run).of(service.run.segments()[-1].id)[-1]
    assert newest.card.step == last_step(service)
    assert newest.card.reason in ("termination", "policy")  # whichever came first at that step
    service.up()
    until(lambda: service.at_work("control"), "the control server is at work")
    assert newest.card.uuid in service.cli("status").stdout, "the trainer's last words were not heard"
    assert service.interrupt() == 0


def test_a_configuration_error_in_one_role_is_told_and_not_tried_again(make_service: MakeService) -> None:
    service = make_service({"STOVETOP_PIPELINE__ANNOTATOR__PLUGIN": "thumbnail_steps:Missing"})
    service.up()
    said = "pipeline: configuration error, see its log; it is not started again"
    until(lambda: said in service.warned.read_text(), "it is told")
    post(service, seed=3)  # the gateway goes on
    assert service.interrupt() == 0
    log = (service.data / "logs" / "pipeline.log").read_text()
    assert log.count("thumbnail_steps has no Missing; correct the name in the settings") == 1
    assert service.warned.read_text().count("pipeline") == 1


def _logged_at(service: Service, session_id: str) -> float:
    """When the last sample of a session was put out."""
    reader = service.log.reader()
    try:
        return max(
            record.time
            for partition in range(reader.partitions(SAMPLES))
            for record in reader.fetch(SAMPLES, partition, 0).records
            if record.key == session_id
        )
    finally:
        reader.close()
