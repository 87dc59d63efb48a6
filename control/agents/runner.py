"""One agent at work: looks when it is due, asks its policy, holds to its limits, and sends or suggests.

It has a thread of its own, so that a model that thinks for a minute holds up neither training nor another agent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from control.agents.limits import Guard
from control.agents.observation import Observation, Record
from control.agents.policy import Action, AgentError, Bounded, Decision, Policy
from control.agents.settings import AgentSettings, Mode
from control.api import CommandRecord
from control.bodies import AgentBody
from control.client import ControlClient
from control.errors import ClientError
from control.protocol import Outcome, RunStatus, new_uuid

logger = logging.getLogger(__name__)

WAIT = 1.0
"""Seconds after which a runner looks whether it is still wanted."""
EXPIRES = 60.0
"""Seconds after which a command that no trainer took up is not wanted any more."""
LONGEST_REST = 256
"""Looks that are left out at most after failures in a row."""


@dataclass(frozen=True)
class Suggestion:
    """A decision that waits for somebody to accept it."""

    id: str
    decision: Decision
    step: int


class Runner:
    """An agent of one run. `tell` takes what it has to say; `changed` is called when its state is another."""

    def __init__(
        self,
        name: str,
        policy: Policy,
        settings: AgentSettings,
        record: Record,
        client: ControlClient,
        tell: Callable[[AgentBody, Observation], None],
        changed: Callable[[], None] = lambda: None,
        spent: Sequence[float] = (),
    ) -> None:
        self.name, self.settings = name, settings
        self._policy, self._record, self._client = policy, record, client
        self._tell, self._changed = tell, changed
        self._guard = Guard(settings.limits, spent)
        self._held = ""
        self._bound()
        self._lock = threading.Lock()
        """Held while a command leaves, so that nothing more leaves once a switch has returned."""
        self._stopping = self._asked = self._accepting = False
        self._wanted = True
        self._looked: tuple[str, int] | None = None
        self.finished = 0
        """The step of the last look that is over, or has sent its first command."""
        self.idle, self.waits = True, False
        """Between two looks; for the outcome of a command, which may need a further step of the training."""
        self._failures = 0
        self._objected = ""
        self._suggestion: Suggestion | None = None
        self._accepted: list[Decision] = []
        self._last: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, name=f"agent {name}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout: float = 3.0) -> bool:
        """Send nothing more, and end; False where its policy is still thinking after `timeout` seconds."""
        self._stopping = True
        self._record.wake()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def ask(self) -> None:
        """Look now, whatever `every` says."""
        self._asked = True
        self._record.wake()

    def configure(self, settings: AgentSettings) -> None:
        """Go on with other settings. When this returns, nothing that the old ones allowed is sent any more."""
        with self._lock:
            self.settings, self._held = settings, ""
            self._guard.limits = settings.limits
            self._failures, self._objected = 0, ""
            self._bound()
        self._record.wake()

    def hold(self, reason: str) -> None:
        """Look no more and send nothing, until it is configured: nobody knows what it may do."""
        with self._lock:
            self._held = reason

    def _bound(self) -> None:
        if isinstance(self._policy, Bounded):
            self._policy.bound(self.settings.limits)

    def want(self, wanted: bool) -> None:
        """The switch over all agents; see `configure` for when it holds."""
        with self._lock:
            self._wanted = wanted
        self._record.wake()

    def accept(self, suggestion: str, author: str) -> list[CommandRecord] | None:
        """Send a suggestion's commands in the name of who accepts it; None where it does not wait any more."""
        with self._lock:
            found = self._suggestion
            if found is None or found.id != suggestion:
                return None
            self._suggestion, self._accepting = None, True
        try:
            return self._carry_out(found, author)
        finally:
            self._accepting = False

    def _carry_out(self, found: Suggestion, author: str) -> list[CommandRecord]:
        note = f"suggested by {found.decision.by}: {found.decision.explanation}"
        seen = self._record.picture()
        done = self._send(found.decision, author, note, None, lambda _: True)
        self._say("accepted", found.decision, seen, done=done, reason=f"by {author}", suggestion=found.id)
        if _succeeded(done, found.decision):
            self._accepted.append(found.decision)
        return done

    def state(self) -> dict[str, Any]:
        """The agent as people see it."""
        waiting = self._suggestion
        return {
            "enabled": self.settings.enabled and self._wanted,
            "kind": getattr(self.settings, "kind", "own"),
            "mode": self.settings.mode.value,
            "every": self.settings.every,
            "limits": self.settings.limits.model_dump(mode="json"),
            "spent": self._guard.spent,
            "held": self._held,
            "suggestion": _shown(waiting) if waiting else None,
            "last": self._last,
        }

    # Within its thread

    def _run(self) -> None:
        while not self._stopping:
            seen = self._record.wait(self._due, WAIT)
            if seen is None:
                continue
            self._asked, self._looked, self.idle = False, (seen.branch, seen.step), False
            failures = self._failures
            try:
                self._look(seen)
                if self._failures == failures:
                    self._failures = 0
            except AgentError as error:
                self._failed(seen, str(error))
            except ClientError as error:
                self._failed(seen, f"the control server: {error}")
            except Exception as error:  # a bug in one policy is not the end of the others
                logger.exception("agent %s", self.name)
                self._failed(seen, f"a bug: {error!r}")
            self.finished, self.idle = seen.step, True
            self._changed()

    def _due(self, seen: Observation) -> bool:
        if self._stopping:
            return True
        if self._accepting:  # what is decided meanwhile would be decided twice
            return False
        if not self._may() or seen.status is not RunStatus.RUNNING or seen.step < 1:
            return False
        if self._asked or self._looked is None or self._looked[0] != seen.branch or seen.step < self._looked[1]:
            return True
        rest = min(LONGEST_REST, 2**self._failures) if self._failures else 1
        return seen.step - self._looked[1] >= self.settings.every * rest

    def _look(self, seen: Observation) -> None:
        if self._stopping:
            return
        resting = self._guard.resting(seen.step)
        if resting is not None:
            self._last = {**self._last, "resting": resting}
            return
        while self._accepted:
            self._policy.acted(self._accepted.pop(0))
        decision = self._policy.decide(seen)
        if decision is None:
            self._withdraw(seen, "there is nothing to be done any more")
            return
        self._last = {
            "step": seen.step,
            "time": time.time(),
            "by": decision.by,
            "explanation": decision.explanation,
            "saw": dict(decision.saw),
        }
        if not decision.actions:
            self._objected = ""
            self._withdraw(seen, decision.explanation)
            if decision.notable:
                self._say("looked", decision, seen)
            return
        objection = self._guard.objection(decision.actions, seen)
        if objection is not None:
            self._withdraw(seen, "its limits do not allow it any more")
            self._refused(decision, seen, objection)
        elif self.settings.mode is Mode.ACT:
            self._act(decision, seen)
        elif self._may():
            self._suggest(decision, seen)

    def _may(self) -> bool:
        return self._wanted and self.settings.enabled and not self._held and not self._stopping

    def _act(self, decision: Decision, seen: Observation) -> None:
        def may(sent: int) -> bool:
            """As the settings are now, which an operator may have changed since it decided."""
            left = decision.actions[sent:]
            return self._may() and self.settings.mode is Mode.ACT and self._guard.objection(left, seen) is None

        done = self._send(decision, decision.by, decision.explanation, seen.revision, may)
        if _succeeded(done, decision):
            self._policy.acted(decision)
            self._say("acted", decision, seen, done=done)
            self._objected = ""
        elif done:
            self._failed(seen, _why(done), decision, done)

    def _send(
        self, decision: Decision, author: str, note: str, revision: int | None, may: Callable[[int], bool]
    ) -> list[CommandRecord]:
        """Send the commands one after the other, with a `revision` each only if nobody came in between.

        Stops at the first failure, and where `may`, given how many were sent, says no.
        """
        done: list[CommandRecord] = []
        for action in decision.actions:
            with self._lock:
                if not may(len(done)):
                    break
                self._guard.sent(self._record.picture().step)
                sent = self._client.send(
                    action.command,
                    action.arguments,
                    run=self._record.run,
                    author=author,
                    note=note[:2000],
                    expected_revision=revision,
                    expires_in=EXPIRES,
                    wait=False,
                )
            if self._looked is not None:
                self.finished = self._looked[1]
            self.waits = True
            try:
                record = sent if sent.outcome is not None else self._client.outcome(sent.uuid, 2 * EXPIRES)
            finally:
                self.waits = False
            done.append(record)
            if record.outcome is not Outcome.SUCCESS:
                break
            revision = None if revision is None else record.number
        return done

    def _suggest(self, decision: Decision, seen: Observation) -> None:
        """Let it wait for somebody, once a dry run has shown that it can be done."""
        waiting = self._suggestion
        if waiting is not None and _same(waiting.decision.actions, decision.actions):
            return
        for action in decision.actions:
            tried = self._client.send(
                action.command,
                action.arguments,
                run=self._record.run,
                author=decision.by,
                note="a dry run of what is suggested",
                dry_run=True,
                expires_in=EXPIRES,
                timeout=EXPIRES * 2,
            )
            if tried.outcome is not Outcome.SUCCESS:
                self._refused(decision, seen, f"its dry run: {_why([tried])}")
                return
        self._withdraw(seen, "another suggestion took its place")
        self._suggestion = Suggestion(new_uuid(), decision, seen.step)
        self._say("suggested", decision, seen, suggestion=self._suggestion.id)

    def _withdraw(self, seen: Observation, reason: str) -> None:
        waiting, self._suggestion = self._suggestion, None
        if waiting is not None:
            self._say("withdrawn", waiting.decision, seen, reason=reason, suggestion=waiting.id)

    def _refused(self, decision: Decision, seen: Observation, reason: str) -> None:
        if reason != self._objected:  # said once, not at every look
            self._say("refused", decision, seen, reason=reason)
        self._objected = reason

    def _failed(
        self, seen: Observation, reason: str, decision: Decision | None = None, done: Sequence[CommandRecord] = ()
    ) -> None:
        self._failures += 1
        self._last = {**self._last, "step": seen.step, "failed": reason}
        self._say("failed", decision or Decision(self.name, ""), seen, done=done, reason=reason)

    def _say(
        self,
        action: str,
        decision: Decision,
        seen: Observation,
        *,
        done: Sequence[CommandRecord] = (),
        reason: str = "",
        suggestion: str | None = None,
    ) -> None:
        commands = tuple(
            {"command": wanted.command, "arguments": dict(wanted.arguments)}
            | ({"uuid": sent.uuid, "outcome": sent.outcome, "step": sent.step} if sent else {})
            for wanted, sent in zip(decision.actions, [*done, *[None] * len(decision.actions)], strict=False)
        )
        content = AgentBody.model_validate(
            {
                "agent": self.name,
                "action": action,
                "by": decision.by,
                "explanation": decision.explanation,
                "saw": dict(decision.saw),
                "commands": commands,
                "suggestion": suggestion,
                "reason": reason,
            }
        )
        self._tell(content, seen)


def _shown(waiting: Suggestion) -> dict[str, Any]:
    decision = waiting.decision
    commands = [{"command": each.command, "arguments": dict(each.arguments)} for each in decision.actions]
    return {
        "id": waiting.id,
        "by": decision.by,
        "explanation": decision.explanation,
        "step": waiting.step,
        "commands": commands,
    }


def _succeeded(done: Sequence[CommandRecord], decision: Decision) -> bool:
    return len(done) == len(decision.actions) and all(record.outcome is Outcome.SUCCESS for record in done)


def _why(done: Sequence[CommandRecord]) -> str:
    last = done[-1]
    if last.outcome is Outcome.SUCCESS:
        return f"an operator came in between after {last.command}"
    outcome = last.outcome.value if last.outcome else "open"
    return f"{last.command} is {outcome}: {last.reason or 'no reason was given'}"


def _same(one: Sequence[Action], other: Sequence[Action]) -> bool:
    return [(each.command, each.arguments) for each in one] == [(each.command, each.arguments) for each in other]
