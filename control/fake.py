"""An actor for tests: it takes the commands that it is told to, over a real line, and trains nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from control.actor import ActorConnection, Delivery
from control.protocol import ActorKind, Command, CommandKind, CommandName, CommandSpec, Outcome, Report, Status

Handler = Callable[[Command], Report | None]
"""Carries a command out. None leaves it open; an exception fails it with its text."""

ANYTHING: dict[str, Any] = {"type": "object"}


@dataclass(frozen=True)
class FakeCommand:
    """A command that the fake takes. Without a handler it succeeds at once."""

    handler: Handler | None = None
    kind: CommandKind = CommandKind.ACTION
    arguments: Mapping[str, Any] = field(default_factory=lambda: dict(ANYTHING))
    summary: str = "taken by a fake"

    def spec(self, name: str) -> CommandSpec:
        """How it is announced."""
        return CommandSpec(name=name, summary=self.summary, arguments=dict(self.arguments), kind=self.kind)


TRAINER: Mapping[str, FakeCommand] = {
    CommandName.UPDATE_OPTIMIZER.value: FakeCommand(kind=CommandKind.SETTING),
    CommandName.UPDATE_DATASET_RUNTIME_HYPERPARAMETERS.value: FakeCommand(kind=CommandKind.SETTING),
    CommandName.SAVE_CHECKPOINT.value: FakeCommand(),
    CommandName.LOAD_CHECKPOINT.value: FakeCommand(kind=CommandKind.RESTORE),
    CommandName.PAUSE_TRAINING.value: FakeCommand(),
    CommandName.RESUME_TRAINING.value: FakeCommand(),
    CommandName.STOP_TRAINING.value: FakeCommand(),
    CommandName.DO_EVALUATE.value: FakeCommand(),
}
"""What a trainer takes, each succeeding at once."""


class FakeActor:
    """A thread that answers commands until it is closed; `taken` holds what came, in order.

    `die` loses the line without a word, as a killed process does; make another FakeActor to come back as its successor.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        run: str = "demo",
        actor: str = "trainer",
        kind: str = ActorKind.TRAINER,
        commands: Mapping[str, FakeCommand] = TRAINER,
        state: Mapping[str, Any] | None = None,
        revision: int | None = 0,
        starts: bool = False,
    ) -> None:
        self._fakes = commands
        self.taken: list[Delivery] = []
        self.connection = ActorConnection(
            url,
            token,
            run=run,
            actor=actor,
            kind=kind,
            commands=[fake.spec(name) for name, fake in commands.items()],
            state=state,
            revision=revision,
            starts=starts,
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._answer, name=f"fake {actor}", daemon=True)

    def start(self, wait: float = 10.0) -> FakeActor:
        """Connect, and answer from now on."""
        self.connection.start(wait)
        self._thread.start()
        return self

    def close(self, reason: str = "", timeout: float = 3.0) -> bool:
        """End in good order; True when the server has everything."""
        self._stop()
        return self.connection.close(reason, timeout)

    def die(self) -> None:
        """End as if killed: no goodbye, and nothing that was not yet sent."""
        self._stop()
        self.connection.abandon()

    def __enter__(self) -> FakeActor:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stop(self) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(5.0)

    def _answer(self) -> None:
        while not self._ended.is_set():
            for delivery in self.connection.wait(0.02):
                self.taken.append(delivery)
                report = self._carry_out(delivery.command)
                if report is not None:
                    self.connection.report(report)

    def _carry_out(self, command: Command) -> Report | None:
        handler = self._fakes[command.command].handler if command.command in self._fakes else None
        if handler is None:
            return Report(uuid=command.uuid, status=Status.SUCCESS, outcome=Outcome.SUCCESS)
        self.connection.report(Report(uuid=command.uuid, status=Status.RUNNING))
        try:
            return handler(command)
        except Exception as error:
            return Report(uuid=command.uuid, status=Status.FAILED, outcome=Outcome.FAILED, reason=str(error))
