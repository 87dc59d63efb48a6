"""The trainer's side of the connection to the control server, as this room needs it.

`control.ActorConnection` is one; `MemoryLink` is another, for programs and tests without a server.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from control import Command, Delivery, Event, Outcome, Report


class Link(Protocol):
    """Carries commands in and reports out. Nothing here waits for longer than it is told, or fails for a server that is
    away: what is said meanwhile is sent later. `revision` is the number of the newest command that the state holds."""

    revision: int

    def commands(self) -> Sequence[Delivery]:
        """What has come since this was asked last, oldest first; at once."""
        ...

    def wait(self, timeout: float) -> Sequence[Delivery]:
        """Like `commands`, but waits up to `timeout` seconds for the first one."""
        ...

    def report(self, report: Report) -> None:
        """Say what became of a command."""
        ...

    def say(self, *events: Event) -> None:
        """Say that something happened."""
        ...

    def set_state(self, **state: Any) -> None:
        """Change what the server shows of this trainer, by the keys of `control.bodies.StateKey`."""
        ...

    def close(self, reason: str = "", timeout: float = 3.0) -> bool:
        """Send what is left and end; whether everything arrived."""
        ...


class MemoryLink:
    """A link to nobody: commands come from `send`, and what is said is kept (the newest 100,000 entries)."""

    def __init__(self) -> None:
        self.reports: deque[Report] = deque(maxlen=100_000)
        self.events: deque[Event] = deque(maxlen=100_000)
        self.state: dict[str, Any] = {}
        self.closed: str | None = None
        self.revision = 0
        self._waiting: deque[Delivery] = deque()
        self._news = threading.Condition()
        self._numbers = 0

    def send(self, name: str, *, again: bool = False, **arguments: Any) -> Command:
        """Let the trainer have a command; from any thread."""
        return self.deliver(Command(command=name, arguments=arguments, author="somebody"), again=again)

    def deliver(self, command: Command, *, again: bool = False) -> Command:
        """Let the trainer have a command; from any thread."""
        with self._news:
            self._numbers += 1
            self._waiting.append(Delivery(command, self._numbers, again))
            self._news.notify_all()
        return command

    def outcome(self, command: Command, timeout: float = 30.0) -> Report:
        """The final report of a command; waits for it. Raises TimeoutError."""
        with self._news:
            if not self._news.wait_for(lambda: bool(self.outcomes(command)), timeout):
                raise TimeoutError(f"{command.command} has no outcome after {timeout} s")
            return next(r for r in self.reports if r.uuid == command.uuid and r.outcome is not None)

    def outcomes(self, command: Command) -> list[Outcome]:
        """Every outcome that was reported of a command; one, if all is well."""
        return [r.outcome for r in list(self.reports) if r.uuid == command.uuid and r.outcome is not None]

    def commands(self) -> Sequence[Delivery]:
        """See `Link`."""
        if not self._waiting:
            return ()
        with self._news:
            return self._take()

    def wait(self, timeout: float) -> Sequence[Delivery]:
        """See `Link`."""
        with self._news:
            self._news.wait_for(lambda: bool(self._waiting), timeout)
            return self._take()

    def report(self, report: Report) -> None:
        """See `Link`."""
        with self._news:
            self.reports.append(report)
            self._news.notify_all()

    def say(self, *events: Event) -> None:
        """See `Link`."""
        with self._news:
            self.events.extend(events)
            self._news.notify_all()

    def set_state(self, **state: Any) -> None:
        """See `Link`."""
        with self._news:
            self.state.update(state)

    def close(self, reason: str = "", timeout: float = 3.0) -> bool:
        """See `Link`."""
        self.closed = reason
        return True

    def _take(self) -> list[Delivery]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken
