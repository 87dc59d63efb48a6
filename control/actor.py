"""A process's line to the control server: commands come in, reports and events go out, and nothing ever waits for it.

The connection lives in a daemon thread. While the server is away it tries again for ever, with pauses of at most a few
seconds; what was said meanwhile is kept (figures within a bound, reports always) and told once, in order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Literal

from control.bodies import LogBody, Open, body
from control.knobs import supersedes
from control.line import Ends, Line
from control.outbox import Outbox
from control.protocol import (
    Command,
    CommandKind,
    CommandName,
    CommandSpec,
    Deliver,
    DesiredState,
    Event,
    EventType,
    Hello,
    Outcome,
    Report,
    Welcome,
    finite,
    new_uuid,
)

KEEP_EVENTS = 20_000
"""Figures kept while the server is away: some minutes of training, about ten megabytes."""

SEEN = 10_000

COMMAND_FOR = {
    DesiredState.RUNNING: CommandName.RESUME_TRAINING,
    DesiredState.PAUSED: CommandName.PAUSE_TRAINING,
    DesiredState.STOPPED: CommandName.STOP_TRAINING,
}
STATE_AFTER = {command.value: state for state, command in COMMAND_FOR.items()}


@dataclass(frozen=True)
class Delivery:
    """A command for this process, with its number in the run.

    `again`: a setting, a pause or a stop that holds for the run and that this process does not know of yet. It is to be
    applied like any other; a report of it goes nowhere, as its outcome stands already.
    """

    command: Command
    number: int
    again: bool = False


class ActorConnection:
    """An actor of a run. Make it, `start` it, ask `commands` at every step, and `close` it at the end.

    `revision` is what this process's state holds (0: nothing; None: no setting is asked for again). The attribute of
    that name goes up as commands succeed, and belongs into every checkpoint. `starts`: a person started this process,
    so an earlier stop is over. `commands` and `wait` are for one thread; the rest may be called from any.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        run: str,
        actor: str,
        kind: str,
        commands: Sequence[CommandSpec] = (),
        state: Mapping[str, Any] | None = None,
        revision: int | None = None,
        starts: bool = False,
        keep_events: int = KEEP_EVENTS,
    ) -> None:
        self.run, self.actor, self.kind = run, actor, kind
        self.revision = revision or 0
        self._asks_again, self._starts = revision is not None, starts
        self._specs = tuple(commands)
        self._kinds = {spec.name: spec.kind for spec in commands}
        self._instance = new_uuid()
        self._outbox = Outbox(keep_events)
        self._inbox: SimpleQueue[Delivery] = SimpleQueue()
        self._under_way: dict[str, Delivery] = {}
        self._seen: dict[str, None] = {}
        self._lock = threading.Lock()
        self._state: dict[str, Any] = finite(dict(state or {}))
        self._changed: dict[str, Any] = {}
        self._obeyed = DesiredState.RUNNING
        ends = Ends(self._hello, self._welcomed, self._delivered, self._take_changes)
        self._line = Line(url, token, self._outbox, ends, f"{actor} of {run}")

    def start(self, wait: float = 0.0) -> bool:
        """Begin to connect; with `wait`, return once the server has answered or that many seconds have passed.

        True when it has answered: settings to be applied again are in `commands` by then.
        """
        self._line.start()
        return self._line.answered.wait(wait) if wait > 0 else self._line.answered.is_set()

    @property
    def connected(self) -> bool:
        """Whether the line stands now."""
        return self._line.connected

    def commands(self) -> Sequence[Delivery]:
        """What came since this was asked last, oldest first: at once, and nearly free when there is nothing.

        Commands that expired on their way, and settings that a later one makes pointless, are reported as that and left
        out.
        """
        if self._inbox.empty():
            return ()
        return self._sift(self._drain())

    def wait(self, timeout: float) -> Sequence[Delivery]:
        """Like `commands`, but wait up to `timeout` seconds for the first one (while paused)."""
        try:
            first = self._inbox.get(timeout=timeout)
        except Empty:
            return ()
        return self._sift([first, *self._drain()])

    def report(self, report: Report) -> None:
        """Say what became of a command. Kept until the server has it, whatever happens to the server."""
        delivery = self._under_way.get(report.uuid)
        if report.outcome is not None:
            self._under_way.pop(report.uuid, None)
        if delivery is not None and report.outcome is Outcome.SUCCESS and not delivery.command.dry_run:
            self.revision = max(self.revision, delivery.number)
            self._obeyed = STATE_AFTER.get(delivery.command.command, self._obeyed)
        if delivery is None or not delivery.again:
            self._outbox.add(report)
            self._line.nudge()

    def say(self, *events: Event) -> None:
        """Tell what happened. Sent in batches, a few hundredths of a second later."""
        for event in events:
            self._outbox.add(event)

    def tell(
        self,
        kind: EventType,
        content: Open | Mapping[str, Any],
        *,
        step: int | None = None,
        branch: str = "main",
        level: Literal["info", "warning", "error"] = "info",
    ) -> None:
        """`say` for one event of this run, from its type and body (see `control.bodies`)."""
        filled = body(content) if isinstance(content, Open) else dict(content)
        self.say(Event(run=self.run, type=kind, body=filled, step=step, branch=branch, level=level))

    def set_state(self, **state: Any) -> None:
        """New values, by the keys of `control.bodies.StateKey`, for what is shown of this process."""
        plain = finite(state)
        with self._lock:
            self._state.update(plain)
            self._changed.update(plain)

    def close(self, reason: str = "", timeout: float = 3.0) -> bool:
        """Say goodbye and end; True when the server has stored everything. Gives up after `timeout` seconds."""
        return self._line.close(reason or "it ended", timeout)

    def abandon(self) -> None:
        """Lose the line without a word, as a killed process does: for tests. Nothing more is sent."""
        self._line.abandon()

    def __enter__(self) -> ActorConnection:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("" if error is None else f"it failed: {error!r}")

    def _drain(self) -> list[Delivery]:
        found = []
        while True:
            try:
                found.append(self._inbox.get_nowait())
            except Empty:
                return found

    def _sift(self, deliveries: list[Delivery]) -> Sequence[Delivery]:
        now = time.time()
        kept = []
        for index, delivery in enumerate(deliveries):
            command = delivery.command
            if delivery.again:
                self.revision = max(self.revision, delivery.number)
            elif command.expires_at is not None and command.expires_at <= now:
                late = now - command.expires_at
                self._end(command, Outcome.EXPIRED, f"{self.actor} took it up {late:.1f} s too late")
                continue
            elif (newer := self._superseding(deliveries[index + 1 :], command)) is not None:
                self._end(command, Outcome.SUPERSEDED, f"command {newer.number} sets the same before the next step")
                continue
            kept.append(delivery)
        return kept

    def _superseding(self, later: list[Delivery], command: Command) -> Delivery | None:
        """The setting that leaves nothing of `command`; what must happen between the two keeps both."""
        for delivery in later:
            kind = self._kinds.get(delivery.command.command, CommandKind.ACTION)
            if kind is not CommandKind.SETTING:
                return None
            if supersedes(delivery.command, command, kind):
                return delivery
        return None

    def _end(self, command: Command, outcome: Outcome, reason: str) -> None:
        self.report(Report(uuid=command.uuid, status=outcome.status, outcome=outcome, reason=reason))

    # Called from the line's thread

    def _hello(self) -> Hello:
        with self._lock:
            state, self._changed = dict(self._state), {}
        return Hello(
            actor=self.actor,
            kind=self.kind,
            run=self.run,
            commands=self._specs,
            state=state,
            instance=self._instance,
            revision=self.revision if self._asks_again or self.revision else None,
            starts=self._starts,
        )

    def _welcomed(self, welcome: Welcome) -> None:
        for delivery in welcome.settings:
            self._delivered(delivery)
        if not self._asks_again:  # begun anew: what was set before is not set again, nor when a later one resumes
            self.revision = max(self.revision, welcome.revision)
        wanted = COMMAND_FOR[welcome.desired].value
        if welcome.desired is not self._obeyed and wanted in self._kinds:  # it came while this process could not hear
            self._obeyed = welcome.desired
            command = Command(command=wanted, run=self.run, author="control")
            self._delivered(Deliver(command=command, number=0, again=True))
        dropped = self._outbox.take_dropped()
        if dropped.count:
            steps = f"steps {dropped.first_step} to {dropped.last_step}"
            told = f"{dropped.count} events of {self.actor} were dropped while the server was away ({steps})"
            line = Event(run=self.run, type=EventType.LOG, level="warning", body=body(LogBody(message=told)))
            self._outbox.add(line, keep=True)

    def _delivered(self, message: Deliver) -> None:
        uuid = message.command.uuid
        if uuid in self._seen:
            return  # the server could not know that it had arrived
        self._seen[uuid] = None
        if len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        self._under_way[uuid] = delivery = Delivery(message.command, message.number, message.again)
        self._inbox.put(delivery)

    def _take_changes(self) -> dict[str, Any]:
        with self._lock:
            changed, self._changed = self._changed, {}
        return changed
