"""Actors that come, go, die and return: what was said is stored once, what was wanted is done or has its reason."""

from __future__ import annotations

import os
import signal
import socket
import timeit
from pathlib import Path

import pytest

from control import (
    ActorConnection,
    Command,
    CommandKind,
    ControlClient,
    EventType,
    FakeActor,
    FakeCommand,
    Outcome,
    Report,
    RunStatus,
    Status,
)
from control.bodies import RunBody
from control.fake import TRAINER
from control.protocol import CommandSpec
from tests.control.conftest import Serve
from tests.control.servers import PROGRAMS, Served, ServedProcess, end, python
from tests.waiting import until

SLOW = {**TRAINER, "slow": FakeCommand(lambda command: None)}


def losses(client: ControlClient, run: str = "demo") -> list[int]:
    page = client.history(run=run, types=[EventType.METRICS], limit=5000)
    return [int(event.body["n"]) for event in page.events]


def cut_lines(served: Served) -> None:
    """Cut every TCP connection of the server, as a network does."""
    import psutil

    port = int(served.url.rsplit(":", 1)[1])
    for connection in psutil.Process().net_connections("tcp"):
        if connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED:
            copy = socket.socket(fileno=os.dup(connection.fd))
            copy.shutdown(socket.SHUT_RDWR)
            copy.close()


def line_to(url: str, token: str, **changes: object) -> ActorConnection:
    given: dict[str, object] = {"run": "demo", "actor": "trainer", "kind": "trainer"}
    return ActorConnection(url, token, **(given | changes))  # type: ignore[arg-type]


def test_everything_said_before_there_was_a_server_arrives_once_and_in_order(served: Served) -> None:
    served.thread.stop()
    line = line_to(served.url, served.tokens.operate)
    line.start()
    for n in range(700):
        line.tell(EventType.METRICS, {"n": n}, step=n)
    assert not line.connected
    served.restart()
    until(lambda: len(losses(served.client)) == 700)
    assert losses(served.client) == list(range(700))
    assert line.close()


def test_a_line_that_breaks_again_and_again_loses_and_doubles_nothing(served: Served) -> None:
    line = line_to(served.url, served.tokens.operate)
    line.start(5)
    for n in range(400):
        line.tell(EventType.METRICS, {"n": n}, step=n)
        if n % 50 == 49:
            until(lambda: line.connected)
            cut_lines(served)
    assert line.close(timeout=10)
    assert losses(served.client) == list(range(400))


def test_over_its_bound_the_oldest_figures_go_and_are_counted_and_reports_stay(served: Served) -> None:
    served.thread.stop()
    line = line_to(served.url, served.tokens.operate, keep_events=100)
    line.start()
    for n in range(250):
        line.tell(EventType.METRICS, {"n": n}, step=n)
        line.tell(EventType.RUN, RunBody(status=RunStatus.RUNNING), step=n)
    served.restart()
    assert until(lambda: line.connected)
    assert line.close(timeout=10)
    assert losses(served.client) == list(range(150, 250))
    assert len(served.client.history(types=[EventType.RUN], limit=1000).events) == 250
    [told] = served.client.history(types=[EventType.LOG]).events
    assert told.body["message"] == "150 events of trainer were dropped while the server was away (steps 0 to 149)"


def test_an_event_that_is_too_large_is_named_and_the_rest_goes_through(served: Served) -> None:
    line = line_to(served.url, served.tokens.operate)
    line.start(5)
    line.tell(EventType.METRICS, {"n": 1})
    line.tell(EventType.EVALUATION, {"picture": "x" * (9 << 20)})
    line.tell(EventType.METRICS, {"n": 2})
    assert line.close(timeout=10)
    assert losses(served.client) == [1, 2]
    [told] = served.client.history(types=[EventType.LOG]).events
    assert "an event of type evaluation was left out" in told.body["message"]


def test_the_action_of_a_dead_actor_fails_and_its_setting_waits_for_the_successor(served: Served) -> None:
    stubborn = {name: FakeCommand(lambda command: None, fake.kind) for name, fake in TRAINER.items()}
    first = FakeActor(served.url, served.tokens.operate, commands=stubborn).start()
    save = served.client.send("save_checkpoint", wait=False)
    mix = served.client.send("update_dataset_runtime_hyperparameters", {"weights": {"live": 0.5}}, wait=False)
    until(lambda: len(first.taken) == 2)
    first.die()
    with FakeActor(served.url, served.tokens.operate, revision=0) as second:
        failed = served.client.outcome(save.uuid, 5)
        assert (failed.outcome, failed.reason) == (Outcome.FAILED, "trainer died before it reported an outcome")
        assert served.client.outcome(mix.uuid, 5).outcome is Outcome.SUCCESS
        assert [(d.command.uuid, d.again) for d in second.taken] == [(mix.uuid, False)]


def test_settings_newer_than_the_checkpoint_are_applied_again_and_older_ones_are_not(served: Served) -> None:
    send = served.client.send
    with FakeActor(served.url, served.tokens.operate) as first:
        old = send("update_optimizer", {"lr": {"value": 1e-3}})
        send("save_checkpoint")
        held = first.connection.revision
        newer = send("update_optimizer", {"lr": {"scale": 0.5}})
        mix = send("update_dataset_runtime_hyperparameters", {"weights": {"live": 0.7}})
        send("update_optimizer", {"lr": {"value": 9.0}}, dry_run=True)
        first.die()
    assert held > old.number
    with FakeActor(served.url, served.tokens.operate, revision=held) as second:
        until(lambda: len(second.taken) == 2)
        assert [(d.command.uuid, d.again) for d in second.taken] == [(newer.uuid, True), (mix.uuid, True)]
        assert second.connection.revision == mix.number
    history = served.client.command(newer.uuid).history
    assert [entry.status for entry in history].count(Status.SUCCESS) == 1


def test_a_load_undoes_the_settings_before_it_also_for_the_successor(served: Served) -> None:
    send = served.client.send
    with FakeActor(served.url, served.tokens.operate) as first:
        send("update_optimizer", {"lr": {"value": 1e-3}})
        send("load_checkpoint", {"uuid": "c0"})
        after = send("update_optimizer", {"weight_decay": {"value": 0.1}})
        first.die()
    with FakeActor(served.url, served.tokens.operate, revision=0) as second:
        until(lambda: second.taken)
        assert [d.command.uuid for d in second.taken] == [after.uuid]


def test_a_trainer_begun_anew_asks_for_no_settings_again(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate):
        served.client.send("update_optimizer", {"lr": {"value": 1e-3}})
    with FakeActor(served.url, served.tokens.operate, revision=None) as second:
        assert served.client.send("save_checkpoint").outcome is Outcome.SUCCESS
        assert [d.command.command for d in second.taken] == ["save_checkpoint"]


def test_a_command_whose_effect_the_checkpoint_holds_succeeds_though_its_report_was_lost(served: Served) -> None:
    stubborn = {"update_optimizer": FakeCommand(lambda command: None, CommandKind.SETTING)}
    first = FakeActor(served.url, served.tokens.operate, commands=stubborn).start()
    record = served.client.send("update_optimizer", {"lr": {"scale": 0.5}}, wait=False)
    until(lambda: first.taken)
    first.die()
    with FakeActor(served.url, served.tokens.operate, revision=record.number) as second:
        done = served.client.outcome(record.uuid, 5)
        assert done.outcome is Outcome.SUCCESS
        assert "the state that trainer resumed from holds it" in done.reason
        assert second.taken == []


def test_numbers_go_on_above_what_an_actor_remembers_though_the_store_is_new(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate, revision=41):
        assert served.client.send("save_checkpoint").number == 42


def test_an_actor_that_stays_away_fails_what_it_had_begun(serve: Serve) -> None:
    served = serve(actor_grace=0.3)
    actor = FakeActor(served.url, served.tokens.operate, commands=SLOW).start()
    record = served.client.send("slow", wait=False)
    until(lambda: actor.taken)
    actor.die()
    failed = served.client.outcome(record.uuid, 5)
    assert (failed.outcome, failed.reason) == (Outcome.FAILED, "trainer has been away for 0.3 s since it got this")


def test_an_actor_that_ends_in_good_order_fails_what_it_leaves_at_once(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate, commands=SLOW) as actor:
        record = served.client.send("slow", wait=False)
        until(lambda: actor.taken)
        actor.close("the last step was reached")
    failed = served.client.outcome(record.uuid, 5)
    assert failed.outcome is Outcome.FAILED
    assert "the last step was reached" in failed.reason


def test_a_successor_takes_the_place_and_its_predecessor_does_not_come_back(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate) as first, FakeActor(served.url, served.tokens.operate) as second:
        until(lambda: not first.connection.connected)
        assert served.client.send("save_checkpoint").outcome is Outcome.SUCCESS
        assert [len(actor.taken) for actor in (first, second)] == [0, 1]
        until(lambda: not first.connection._line._thread.is_alive())


def test_a_run_is_disconnected_while_its_trainer_is_away_and_keeps_its_last_word_when_it_is_over(
    served: Served,
) -> None:
    trainer = FakeActor(served.url, served.tokens.operate).start()
    trainer.connection.tell(EventType.RUN, RunBody(status=RunStatus.RUNNING))
    until(lambda: served.client.run("demo").status is RunStatus.RUNNING)
    trainer.die()
    until(lambda: served.client.run("demo").status is RunStatus.DISCONNECTED)
    with FakeActor(served.url, served.tokens.operate) as successor:
        until(lambda: served.client.run("demo").status is RunStatus.RUNNING)
        successor.connection.tell(EventType.RUN, RunBody(status=RunStatus.FINISHED, reason="max_steps"))
    run = served.client.run("demo")
    assert (run.status, run.reason) == (RunStatus.FINISHED, "max_steps")


def test_an_actor_cannot_speak_for_the_server_or_for_another_run(served: Served) -> None:
    from control import Event

    line = line_to(served.url, served.tokens.operate)
    line.start(5)
    line.tell(EventType.COMMAND, {"uuid": "forged"})
    line.tell(EventType.RUN, {"desired": "stopped"})
    line.say(Event(run="other", type=EventType.METRICS, body={"n": 0}))
    line.tell(EventType.METRICS, {"n": 1})
    assert line.close()
    assert losses(served.client) == [1]
    assert served.client.history(types=[EventType.COMMAND]).events == ()
    assert served.client.desired("demo").state == "running"
    assert [run.run for run in served.client.runs().runs] == ["demo"]


def test_new_state_is_shown_and_merged_by_key(served: Served) -> None:
    with FakeActor(
        served.url, served.tokens.operate, state={"optimizer": {"lr": float("nan")}, "info": {"a": 1}}
    ) as actor:
        assert served.client.run("demo").optimizer == {"lr": None}
        actor.connection.set_state(optimizer={"lr": 0.5}, model={"name": "Model", "children": []})
        until(lambda: served.client.run("demo").optimizer == {"lr": 0.5})
        run = served.client.run("demo")
        assert run.state["info"] == {"a": 1}
        assert "model" not in run.state
        assert served.client.model("demo").model == {"name": "Model", "children": []}


def test_what_is_not_a_hello_is_turned_away_with_a_reason(served: Served) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    address = served.url.replace("http", "ws") + "/api/v1/actor"
    for said, reason in (
        ("{", "expected a hello"),
        ('{"type": "ack", "number": 1}', "expected a hello"),
        ('{"type": "hello", "actor": "a", "kind": "x", "run": "../up"}', "String should match pattern"),
        ('{"type": "hello", "actor": "a", "kind": "x", "run": "r", "protocol": 9}', "only 1"),
    ):
        with connect(address, additional_headers={"Authorization": f"Bearer {served.tokens.operate}"}) as line:
            line.send(said)
            with pytest.raises(ConnectionClosed) as caught:
                line.recv(timeout=5)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008
            assert reason in caught.value.rcvd.reason


def test_asking_for_commands_costs_next_to_nothing() -> None:
    line = line_to("http://127.0.0.1:1", "none")
    seconds = min(timeit.repeat(line.commands, number=20_000, repeat=5)) / 20_000
    assert seconds < 5e-6  # 0.1 us on a free core


def test_a_killed_server_returns_and_the_trainer_goes_on_where_it_was(served_process: ServedProcess) -> None:
    served = served_process
    with FakeActor(served.url, served.tokens.operate) as trainer:
        said = 0
        for _ in range(2):
            for _ in range(150):
                trainer.connection.tell(EventType.METRICS, {"n": said}, step=said)
                said += 1
            record = served.client.send("save_checkpoint", wait=False)
            served.kill()
            for _ in range(150):
                trainer.connection.tell(EventType.METRICS, {"n": said}, step=said)
                said += 1
            served.start()
            assert served.client.outcome(record.uuid, 10).outcome is Outcome.SUCCESS
        assert trainer.connection.close(timeout=10)
    assert losses(served.client) == list(range(said))
    assert [len({d.command.uuid for d in trainer.taken}), len(trainer.taken)] == [2, 2]
    numbers = [event.seq for event in served.client.history(limit=5000).events]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_killed_trainer_fails_what_it_had_begun_and_its_successor_gets_the_settings(served: Served) -> None:
    arguments = (served.url, served.tokens.operate, "demo", "0", "20")
    first = python(PROGRAMS / "train.py", *arguments)
    try:
        until(lambda: any(run.status is RunStatus.RUNNING for run in served.client.runs().runs))
        setting = served.client.send("update_optimizer", {"lr": {"value": 0.1}})
        evaluation = served.client.send("do_evaluate", wait=False)
        until(lambda: served.client.command(evaluation.uuid).command.status is Status.RUNNING)
        first.send_signal(signal.SIGKILL)
        until(lambda: served.client.run("demo").status is RunStatus.DISCONNECTED)
    finally:
        end(first)
    second = python(PROGRAMS / "train.py", *arguments)
    try:
        failed = served.client.outcome(evaluation.uuid, 20)
        assert (failed.outcome, failed.reason) == (Outcome.FAILED, "trainer died before it reported an outcome")
        assert second.stdout is not None
        line = second.stdout.readline().split(" ", 3)
        assert line[:3] == [str(setting.number), "update_optimizer", "True"]
    finally:
        end(second)


def test_server_and_trainer_killed_at_once_keep_the_whole_history(served_process: ServedProcess) -> None:
    served = served_process
    first = python(PROGRAMS / "train.py", served.url, served.tokens.operate, "demo", "0", "200")
    second = None
    try:
        until(lambda: any((run.step or 0) > 20 for run in served.client.runs().runs))
        done = [served.client.send("save_checkpoint", run="demo") for _ in range(3)]
        evaluation = served.client.send("do_evaluate", run="demo", wait=False)
        until(lambda: served.client.command(evaluation.uuid).command.status is Status.RUNNING)
        before = served.client.history(0, limit=5000).events
        served.kill()
        first.send_signal(signal.SIGKILL)
        served.start()
        assert served.client.history(0, limit=5000).events[: len(before)] == before
        second = python(PROGRAMS / "train.py", served.url, served.tokens.operate, "demo", "0", "200")
        assert served.client.outcome(evaluation.uuid, 60).reason == "trainer died before it reported an outcome"
        assert served.client.send("save_checkpoint", run="demo").outcome is Outcome.SUCCESS
        for each in done:  # still the one outcome that was answered
            assert served.client.command(each.uuid).command == each
        events = served.client.history(0, limit=5000).events
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
    finally:
        end(first)
        if second is not None:
            end(second)


def test_a_process_with_a_line_ends_at_once(served: Served, tmp_path: Path) -> None:
    program = tmp_path / "brief.py"
    program.write_text(
        "import sys\n"
        "from control import ActorConnection, EventType\n"
        "line = ActorConnection(sys.argv[1], sys.argv[2], run='demo', actor='trainer', kind='trainer')\n"
        "assert line.start(10)\n"
        "line.tell(EventType.METRICS, {'n': 1})\n"
        "print('done', flush=True)\n"
    )
    process = python(program, served.url, served.tokens.operate)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        assert process.wait(60) == 0
    finally:
        end(process)


def test_a_spec_of_a_users_own_command_is_shown_and_taken(served: Served) -> None:
    def scale(command: Command) -> Report:
        return Report(uuid=command.uuid, status=Status.SUCCESS, outcome=Outcome.SUCCESS, after=command.arguments["by"])

    fakes = {"scale_loss": FakeCommand(scale, summary="Scale the loss", arguments={"type": "object"})}
    with FakeActor(served.url, served.tokens.operate, commands=fakes):
        shown = {command.spec.name: command for command in served.client.run("demo").commands}
        assert isinstance(shown["scale_loss"].spec, CommandSpec)
        assert shown["scale_loss"].available
        assert served.client.send("scale_loss", {"by": 2}).after == 2
        assert served.client.send("scale_los", {"by": 2}).reason.endswith("did you mean 'scale_loss'?")
    until(lambda: not {c.spec.name: c for c in served.client.run("demo").commands}["scale_loss"].available)
