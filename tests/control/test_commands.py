"""The life of a command, over a real server and a real line to an actor."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from control import (
    Command,
    CommandKind,
    ControlClient,
    DesiredState,
    EventType,
    FakeActor,
    FakeCommand,
    NoOutcome,
    Outcome,
    Refused,
    Report,
    RunStatus,
    Status,
)
from control.api import CommandRecord
from control.bodies import RunBody
from control.fake import TRAINER
from tests.control.conftest import Serve
from tests.control.servers import Served
from tests.waiting import until


def statuses(client: ControlClient, record: CommandRecord) -> list[Status]:
    return [entry.status for entry in client.command(record.uuid).history]


def test_a_command_goes_through_every_state_once_and_keeps_what_the_actor_said(served: Served) -> None:
    def halve(command: Command) -> Report:
        return Report(
            uuid=command.uuid,
            status=Status.SUCCESS,
            outcome=Outcome.SUCCESS,
            step=12,
            takes_effect_at=13,
            before={"lr": 2e-5},
            after={"lr": 1e-5},
            reason="halved",
        )

    fakes = {"update_optimizer": FakeCommand(halve, CommandKind.SETTING)}
    with FakeActor(served.url, served.tokens.operate, commands=fakes):
        record = served.client.send("update_optimizer", {"lr": {"scale": 0.5}}, note="loss is flat")

    assert statuses(served.client, record) == [Status.REQUESTED, Status.PENDING, Status.RUNNING, Status.SUCCESS]
    assert (record.outcome, record.reason, record.step, record.takes_effect_at) == (Outcome.SUCCESS, "halved", 12, 13)
    assert (record.before, record.after) == ({"lr": 2e-5}, {"lr": 1e-5})
    [entry] = served.client.audit("demo").entries
    assert (entry.author, entry.note, entry.step, entry.outcome) == ("ops", "loss is flat", 12, Outcome.SUCCESS)
    assert entry.seconds is not None
    assert entry.seconds >= 0


def test_an_actor_that_fails_says_why(served: Served) -> None:
    def refuse(command: Command) -> Report:
        raise ValueError("no layer is called 'transformer.h.99'")

    with FakeActor(served.url, served.tokens.operate, commands={"reset": FakeCommand(refuse)}):
        record = served.client.send("reset")
    assert (record.outcome, record.reason) == (Outcome.FAILED, "no layer is called 'transformer.h.99'")
    assert record.status is Status.FAILED


def test_one_uuid_acts_once_however_often_it_is_sent(client: ControlClient, trainer: FakeActor) -> None:
    threads = [
        threading.Thread(target=client.send, args=("save_checkpoint",), kwargs={"uuid": "one"}) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.send("save_checkpoint", uuid="one").outcome is Outcome.SUCCESS
    assert [delivery.command.uuid for delivery in trainer.taken] == ["one"]


def test_one_uuid_for_two_different_commands_is_a_conflict(client: ControlClient, trainer: FakeActor) -> None:
    client.send("update_optimizer", {"lr": {"value": 1e-5}}, uuid="one")
    with pytest.raises(Refused, match="belongs to a 'update_optimizer' that says something else") as caught:
        client.send("update_optimizer", {"lr": {"value": 1e-4}}, uuid="one")
    assert caught.value.status == 409


def test_an_unknown_name_gets_the_nearest_known_one(client: ControlClient, trainer: FakeActor) -> None:
    record = client.send("updat_optimiser", {"lr": {"value": 1}})
    assert record.outcome is Outcome.REJECTED
    assert record.reason == "there is no command 'updat_optimiser'; did you mean 'update_optimizer'?"


def test_a_known_command_that_nobody_takes_is_rejected_with_who_is_there(
    client: ControlClient, trainer: FakeActor
) -> None:
    record = client.send("promote_version", {"channel": "stable", "version": 3})
    assert record.outcome is Outcome.REJECTED
    assert record.reason == "nobody in run 'demo' takes 'promote_version'; connected: trainer"


def test_arguments_are_held_against_the_actors_schema_before_they_travel(served: Served) -> None:
    schema = {
        "type": "object",
        "properties": {"lr": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}},
        "required": ["lr"],
        "additionalProperties": False,
    }
    with FakeActor(served.url, served.tokens.operate, commands={"tune": FakeCommand(arguments=schema)}) as actor:
        assert served.client.send("tune", {"lr": 7}).reason == "tune: lr: 7 is greater than the maximum of 1"
        assert served.client.send("tune").reason == "tune: 'lr' is a required property"
        assert served.client.send("tune", {"lr": 0.5}).outcome is Outcome.SUCCESS
        assert [delivery.command.arguments for delivery in actor.taken] == [{"lr": 0.5}]


def test_a_command_without_a_run_finds_the_only_one_that_takes_it(served: Served) -> None:
    with (
        FakeActor(served.url, served.tokens.operate, run="a"),
        FakeActor(
            served.url,
            served.tokens.operate,
            run="a",
            actor="publisher",
            kind="publisher",
            commands={"pin": FakeCommand()},
        ),
        FakeActor(served.url, served.tokens.operate, run="b"),
    ):
        assert served.client.send("pin").run == "a"
        record = served.client.send("save_checkpoint")
        assert record.outcome is Outcome.REJECTED
        assert record.reason == "2 runs could take it; name one of a, b with `run`"
        assert served.client.send("save_checkpoint", run="b").run == "b"
        assert served.client.send("save_checkpoint", run="c").reason.startswith("there is no run 'c'")


def test_a_stale_revision_is_rejected_and_the_current_one_accepted(client: ControlClient, trainer: FakeActor) -> None:
    revision = client.send("update_optimizer", {"lr": {"value": 1e-4}}).number
    assert client.run("demo").revision == revision
    stale = client.send("update_optimizer", {"lr": {"value": 1e-3}}, expected_revision=revision - 1)
    assert stale.outcome is Outcome.REJECTED
    assert f"expected revision {revision - 1}, but the run is at {revision}" in stale.reason
    assert client.send("save_checkpoint", expected_revision=revision).outcome is Outcome.SUCCESS


def test_a_command_under_way_makes_the_revision_stale(served: Served) -> None:
    fakes = {"slow": FakeCommand(lambda command: None), "quick": FakeCommand()}
    with FakeActor(served.url, served.tokens.operate, commands=fakes):
        served.client.send("slow", wait=False)
        record = served.client.send("quick", expected_revision=0)
    assert record.outcome is Outcome.REJECTED
    assert "with command 1 under way" in record.reason


def test_a_dry_run_counts_for_nothing(client: ControlClient, trainer: FakeActor) -> None:
    record = client.send("pause_training", dry_run=True)
    assert record.outcome is Outcome.SUCCESS
    assert trainer.taken[0].command.dry_run
    assert client.run("demo").revision == 0
    assert client.desired("demo").state is DesiredState.RUNNING


def test_a_command_that_came_too_late_expires(client: ControlClient, trainer: FakeActor) -> None:
    record = client.send("save_checkpoint", expires_in=-5)
    assert record.outcome is Outcome.EXPIRED
    assert trainer.taken == []


def test_a_command_for_an_actor_that_is_away_waits_and_expires(served: Served) -> None:
    FakeActor(served.url, served.tokens.operate).start().close()
    waiting = served.client.send("save_checkpoint", wait=False)
    assert waiting.status is Status.REQUESTED
    late = served.client.send("do_evaluate", expires_in=0.3, timeout=5)
    assert late.outcome is Outcome.EXPIRED
    with FakeActor(served.url, served.tokens.operate):
        assert served.client.outcome(waiting.uuid, 5).outcome is Outcome.SUCCESS


def test_waiting_settings_are_superseded_by_a_newer_one_of_the_same_knob_but_never_across_a_save(
    served: Served,
) -> None:
    FakeActor(served.url, served.tokens.operate).start().close()
    send = served.client.send
    first = send("update_optimizer", {"lr": {"value": 1e-3}}, wait=False)
    other = send("update_optimizer", {"weight_decay": {"value": 0.1}}, wait=False)
    second = send("update_optimizer", {"lr": {"value": 1e-4}}, wait=False)
    save = send("save_checkpoint", wait=False)
    third = send("update_optimizer", {"lr": {"value": 1e-5}}, wait=False)
    halve = send("update_optimizer", {"lr": {"scale": 0.5}}, wait=False)
    with FakeActor(served.url, served.tokens.operate) as actor:
        outcomes = [served.client.outcome(r.uuid, 5).outcome for r in (first, other, second, save, third, halve)]
    assert outcomes == [Outcome.SUPERSEDED] + [Outcome.SUCCESS] * 5
    assert [delivery.command.uuid for delivery in actor.taken] == [r.uuid for r in (other, second, save, third, halve)]


def test_a_busy_actor_takes_only_the_last_of_several_turns_of_one_knob(served: Served) -> None:
    go_on = threading.Event()

    def slow(command: Command) -> Report:
        go_on.wait(10)
        return Report(uuid=command.uuid, status=Status.SUCCESS, outcome=Outcome.SUCCESS)

    with FakeActor(served.url, served.tokens.operate, commands={**TRAINER, "slow": FakeCommand(slow)}) as actor:
        served.client.send("slow", wait=False)
        until(lambda: actor.taken)
        turns = [served.client.send("update_optimizer", {"lr": {"value": v}}, wait=False) for v in (1e-3, 1e-4, 1e-5)]
        until(lambda: actor.connection._inbox.qsize() == 3)
        go_on.set()
        outcomes = [served.client.outcome(turn.uuid, 5).outcome for turn in turns]
    assert outcomes == [Outcome.SUPERSEDED, Outcome.SUPERSEDED, Outcome.SUCCESS]


def test_a_pause_is_what_people_want_until_they_resume(client: ControlClient, trainer: FakeActor) -> None:
    client.send("pause_training")
    assert client.desired("demo").state is DesiredState.PAUSED
    client.send("resume_training")
    assert (client.desired("demo").state, client.desired("demo").author) == (DesiredState.RUNNING, "ops")


def test_a_stopped_run_stays_stopped_until_it_is_started(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate) as trainer:
        trainer.connection.tell(EventType.RUN, RunBody(status=RunStatus.RUNNING))
        served.client.send("stop_training")
        trainer.connection.tell(EventType.RUN, RunBody(status=RunStatus.STOPPED))
    assert served.client.desired("demo").state is DesiredState.STOPPED
    assert served.client.run("demo").status is RunStatus.STOPPED
    served.restart()
    assert served.client.desired("demo").state is DesiredState.STOPPED

    wanted = served.client.want("demo", DesiredState.RUNNING, "after lunch")
    assert wanted.state is DesiredState.RUNNING
    assert wanted.command is not None
    assert (wanted.command.command, wanted.command.actor, wanted.command.note) == (
        "start_training",
        "control",
        "after lunch",
    )
    assert served.client.want("demo", DesiredState.RUNNING).command is None


def test_a_stop_holds_for_a_trainer_that_is_away_just_then(served: Served) -> None:
    trainer = FakeActor(served.url, served.tokens.operate).start()
    trainer.die()
    until(lambda: not served.client.run("demo").actors[0].connected)
    record = served.client.send("stop_training")
    assert (record.outcome, record.actor) == (Outcome.SUCCESS, "control")
    with FakeActor(served.url, served.tokens.operate) as successor:
        [delivery] = until(lambda: successor.taken)
    assert (delivery.command.command, delivery.again) == ("stop_training", True)


def test_who_takes_no_stop_is_told_of_none(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate):
        served.client.send("stop_training")
    promote = {"promote_version": FakeCommand()}
    with FakeActor(
        served.url, served.tokens.operate, actor="publisher", kind="publisher", commands=promote
    ) as publisher:
        served.client.send("promote_version", run="demo")
        until(lambda: publisher.taken)
    assert [delivery.command.command for delivery in publisher.taken] == ["promote_version"]


def test_a_person_who_starts_a_trainer_ends_the_stop(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate):
        served.client.send("stop_training")
    with FakeActor(served.url, served.tokens.operate, starts=True) as trainer:
        assert served.client.desired("demo").state is DesiredState.RUNNING
        assert trainer.taken == []


def test_start_and_resume_name_each_other_when_they_are_mixed_up(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate):
        served.client.send("pause_training")
        assert served.client.send("start_training").reason == "the run is paused, not stopped; send resume_training"
        served.client.send("stop_training")
    assert served.client.send("resume_training").reason == "the run is stopped; send start_training first"
    assert served.client.send("pause_training").reason == "the run is stopped; send start_training first"


def test_a_client_that_waits_in_vain_is_told_that_the_command_is_still_open(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate, commands={"slow": FakeCommand(lambda command: None)}):
        began = time.monotonic()
        with pytest.raises(NoOutcome, match="is still running"):
            served.client.send("slow", timeout=0.5)
        assert time.monotonic() - began < 15


def test_too_many_commands_in_a_minute_are_refused_with_a_time_to_wait(serve: Serve) -> None:
    served = serve(commands_per_minute=3)
    with FakeActor(served.url, served.tokens.operate):
        for _ in range(3):
            served.client.send("save_checkpoint")
        with pytest.raises(Refused) as caught:
            served.client.send("save_checkpoint")
    assert caught.value.status == 429


def test_commands_that_wait_are_bounded(serve: Serve) -> None:
    served = serve(max_waiting=2)
    FakeActor(served.url, served.tokens.operate).start().close()
    for _ in range(2):
        served.client.send("save_checkpoint", wait=False)
    assert served.client.send("save_checkpoint").reason == "2 commands wait in run 'demo' already; let some of them end"


def test_a_report_after_the_outcome_changes_nothing_and_is_noted(served: Served) -> None:
    with FakeActor(served.url, served.tokens.operate) as trainer:
        record = served.client.send("save_checkpoint")
        trainer.connection.report(
            Report(uuid=record.uuid, status=Status.FAILED, outcome=Outcome.FAILED, reason="disk full")
        )
        lines = until(lambda: served.client.history(types=[EventType.LOG]).events)
    assert served.client.command(record.uuid).command.outcome is Outcome.SUCCESS
    assert "which had ended as success: disk full" in lines[0].body["message"]


def test_pages_of_commands_go_back_to_the_first(client: ControlClient, trainer: FakeActor) -> None:
    sent = [client.send("save_checkpoint", note=str(index)).uuid for index in range(7)]
    found: list[str] = []
    before: int | None = None
    while True:
        page = client.commands("demo", before=before, limit=3)
        found += [record.uuid for record in page.commands]
        before = page.before
        if before is None:
            break
    assert found == sent[::-1]


def test_every_table_can_be_made_again_from_the_events(served: Served, tmp_path: Path) -> None:
    with FakeActor(served.url, served.tokens.operate) as trainer:
        trainer.connection.tell(EventType.METRICS, {"loss": 0.5}, step=1)
        trainer.connection.tell(EventType.CHECKPOINT, {"uuid": "c1", "path": "x"}, step=1)
        trainer.connection.tell(EventType.VERSION, {"version": 1, "action": "published", "channel": "stable"}, step=1)
        served.client.send("update_optimizer", {"lr": {"value": 1e-4}})
        served.client.send("pause_training")
    before = served.client.run("demo"), served.client.commands(), served.client.versions()
    served.thread.stop()

    from control.store import Store

    store = Store(served.settings.data)
    store.rebuild()
    store.close()
    served.restart()
    after = served.client.run("demo"), served.client.commands(), served.client.versions()
    assert after[1:] == before[1:]
    assert after[0].model_copy(update={"actors": (), "commands": ()}) == before[0].model_copy(
        update={"actors": (), "commands": ()}
    )
