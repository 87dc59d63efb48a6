"""Random schedules of sending, dying, returning, reporting and restarting, without a socket: what must hold always."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from control import CommandKind, ControlSettings, EventType, Outcome, Report, Status
from control.api import CommandRecord, NewCommand
from control.protocol import CommandSpec, Deliver, Goodbye, Hello, Reported, ToActor, Welcome
from control.server.hub import Hub
from control.server.journal import Journal
from control.server.roster import Link
from control.server.switchboard import Switchboard
from control.store import EventFilter, Store, events
from control.store.rows import to_event

MEMORY = Path("/dev/shm")
"""Nothing here is about the disk, and syncing it thousands of times takes long."""

ANY: dict[str, Any] = {"type": "object"}
SPECS = (
    CommandSpec(name="set", summary="", arguments=ANY, kind=CommandKind.SETTING),
    CommandSpec(name="act", summary="", arguments=ANY),
    CommandSpec(name="load_checkpoint", summary="", arguments=ANY, kind=CommandKind.RESTORE),
    CommandSpec(name="pause_training", summary="", arguments=ANY),
    CommandSpec(name="stop_training", summary="", arguments=ANY),
)


class Machine(RuleBasedStateMachine):
    """One trainer that comes and goes, one server that restarts, and people who command."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.now = 1000.0
        self.settings = ControlSettings(command_expiry=60, actor_grace=10)
        self.link: Link | None = None
        self.inbox: list[ToActor] = []
        self.instance, self.number, self.instances = "", 0, 0
        self.held: dict[str, Deliver] = {}  # what this instance took and has not reported
        self.knob = 0.0  # what the trainer's state is, as settings made it
        self.applied = 0  # the number of the last command in that state
        self.saved = (0.0, 0)  # the same, in the checkpoint
        self.sent, self.place = 0, 0
        self.ended: dict[str, Outcome] = {}
        self.numbers: dict[str, int] = {}

    @initialize()
    def open(self) -> None:
        self.store = Store(self.folder)
        self.board = Switchboard(
            Journal(self.store, Hub(self.store.last_seq, 64).publish, lambda: self.now), self.settings
        )

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.now += 1000
            self.disconnect()
            self.now += 1000
            self.board.tick()
            assert not self.board.ledger.open, "a command without an outcome"
            self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self) -> None:
        self.inbox = []
        self.link = Link(self.inbox.append, lambda reason: None)
        hello = Hello(
            actor="trainer",
            kind="trainer",
            run="r",
            commands=SPECS,
            instance=self.instance,
            revision=self.applied,
        )
        self.board.hello(hello, self.link)
        welcome = self.inbox.pop(0)
        assert isinstance(welcome, Welcome)
        for again in welcome.settings:
            assert again.again
            self.take(again)

    def take(self, deliver: Deliver) -> None:
        if "value" in deliver.command.arguments:
            self.knob = deliver.command.arguments["value"]
        if deliver.command.command == "load_checkpoint":
            self.knob = self.saved[0]
        self.applied = max(self.applied, deliver.number)

    def disconnect(self) -> None:
        if self.link is not None:
            self.board.gone(self.link, "lost")
            self.link = None

    def say(self, report: Report) -> None:
        self.number += 1
        seat = self.board.roster.holding(self.link) if self.link else None
        assert seat is not None
        self.board.reported(seat, Reported(number=self.number, report=report))
        self.board.reported(seat, Reported(number=self.number, report=report))  # sent once more, as after a reconnect

    @rule()
    @precondition(lambda self: self.link is None)
    def arrive_as_a_new_process(self) -> None:
        self.instances += 1
        self.instance, self.number, self.held = f"i{self.instances}", 0, {}
        self.knob, self.applied = self.saved
        self.connect()

    @rule()
    @precondition(lambda self: self.link is not None)
    def lose_the_line_and_come_back(self) -> None:
        self.disconnect()
        self.receive()
        self.connect()

    @rule()
    @precondition(lambda self: self.link is not None)
    def die(self) -> None:
        self.disconnect()
        self.held = {}

    @rule()
    @precondition(lambda self: self.link is not None)
    def end_in_good_order(self) -> None:
        assert self.link is not None
        self.board.goodbye(self.link, Goodbye(reason="done"))
        self.link, self.held = None, {}

    @rule()
    def restart_the_server(self) -> None:
        connected = self.link is not None
        self.link = None
        self.store.close()
        self.open()
        if connected:
            self.connect()

    @rule(name=st.sampled_from([spec.name for spec in SPECS] + ["unknown", "start_training", "resume_training"]))
    def send(self, name: str) -> None:
        self.sent += 1
        arguments = {"value": float(self.sent)} if name == "set" else {}
        self.board.submit(NewCommand(command=name, arguments=arguments, run=None), "ops")

    @rule()
    @precondition(lambda self: self.link is not None)
    def receive(self) -> None:
        for message in self.inbox:
            if isinstance(message, Deliver) and message.command.uuid not in self.held:
                self.held[message.command.uuid] = message
        self.inbox.clear()

    @rule(succeeds=st.booleans())
    @precondition(lambda self: self.link is not None and self.held)
    def carry_out_the_oldest(self, succeeds: bool) -> None:
        uuid = next(iter(self.held))
        deliver = self.held.pop(uuid)
        outcome = Outcome.SUCCESS if succeeds else Outcome.FAILED
        record = self.board.ledger.find(uuid)
        assert record is not None
        if record.outcome is not None:
            return  # given up on while this trainer was away
        if succeeds:
            self.take(deliver)
        self.say(Report(uuid=uuid, status=outcome.status, outcome=outcome))

    @rule(saves=st.booleans())
    @precondition(lambda self: self.link is not None and self.held)
    def carry_out_the_oldest_and_die_before_the_report(self, saves: bool) -> None:
        uuid = next(iter(self.held))
        record = self.board.ledger.find(uuid)
        assert record is not None
        if record.outcome is None:
            self.take(self.held[uuid])
            if saves:
                self.save()
        self.die()

    @rule()
    @precondition(lambda self: self.link is not None)
    def save(self) -> None:
        self.saved = self.knob, self.applied

    @rule(seconds=st.sampled_from([0.5, 5.0, 15.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.board.tick()

    @invariant()
    def every_command_goes_forward_and_ends_once(self) -> None:
        if not hasattr(self, "store"):
            return
        found = events.after(self.store.connection, self.place, EventFilter(types=(EventType.COMMAND,)), 10_000)
        self.place = found.last
        for row in found.rows:
            record = CommandRecord.model_validate(to_event(row).body)
            assert record.uuid not in self.ended, f"{record.command} went on after {self.ended.get(record.uuid)}"
            if record.outcome is not None:
                self.ended[record.uuid] = record.outcome
                assert record.outcome is Outcome.SUCCESS or record.reason or record.delivered_to
            self.numbers[record.uuid] = record.number
        given = [number for number in self.numbers.values() if number]
        assert len(set(given)) == len(given)
        assert set(self.board.ledger.open) == set(self.numbers) - set(self.ended)

    @invariant()
    def the_trainer_is_as_its_settings_say(self) -> None:
        """Whatever was lost on the way: what succeeded is what the trainer has, once it has taken what it was given."""
        if not hasattr(self, "store") or self.link is None:
            return
        expected = 0.0
        rows = self.store.connection.execute("SELECT record FROM commands WHERE outcome = 'success' ORDER BY number")
        for (text,) in rows:
            record = CommandRecord.model_validate_json(text)
            if record.command == "set":
                expected = record.arguments["value"]
            elif record.command == "load_checkpoint":
                expected = float("nan")  # what the checkpoint held then; the trainer knows
        if expected == expected:
            assert self.knob == expected, (self.knob, expected)


TestSwitchboard = Machine.TestCase
TestSwitchboard.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_running_comes_before_its_outcome_and_never_after(tmp_path: Path) -> None:
    store = Store(tmp_path)
    board = Switchboard(Journal(store, Hub(0, 64).publish), ControlSettings())
    inbox: list[ToActor] = []
    link = Link(inbox.append, lambda reason: None)
    board.hello(Hello(actor="trainer", kind="trainer", run="r", commands=SPECS, instance="i"), link)
    record = board.submit(NewCommand(command="act"), "ops")
    seat = board.roster.holding(link)
    assert seat is not None
    for number, (status, outcome) in enumerate(
        [(Status.PENDING, None), (Status.RUNNING, None), (Status.RUNNING, None), (Status.COMPLETED, Outcome.SUCCESS)], 1
    ):
        board.reported(seat, Reported(number=number, report=Report(uuid=record.uuid, status=status, outcome=outcome)))
    found = [
        to_event(row).body["status"]
        for row in events.after(store.connection, 0, EventFilter(types=(EventType.COMMAND,)), 99).rows
    ]
    assert found == ["requested", "pending", "running", "success"]
    store.close()
