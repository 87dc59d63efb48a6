"""The agents of one run, as one actor of its control server: operators switch them, bound them and accept suggestions.

    set_agents         {"enabled": false}                                  all of them, at once: the kill switch
                       {"agents": {"llm": {"mode": "act", …}}}             one of them
                       {"agents": {"llm": {"limits": {"max_lr": 1e-3}}}}   its limits; "file": as the settings file says
    accept_suggestion  {"suggestion": …}                                   send what an agent suggested, in one's own name
    ask_agent          {"agent": …}                                        look now

What is set is desired state (see `settled`): an agent that was switched off stays off when its process is started again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from control.actor import ActorConnection, Delivery
from control.agents.limits import ACCEPT, ASK, FORBIDDEN, SET_AGENTS, Limits
from control.agents.observation import Observation, Record
from control.agents.policy import Policy, Remembers
from control.agents.runner import Runner
from control.agents.settings import AgentSettings
from control.agents.settled import LIMITS, SettingError, Settled
from control.bodies import AgentBody, StateKey
from control.client import ControlClient
from control.errors import ClientError, Refused
from control.protocol import Command, CommandKind, CommandName, CommandSpec, Event, EventType, Outcome, Report

ACTOR = "agents"
LOOK = 0.2
"""Seconds within which a command to the agents is taken up."""
STATE_EVERY = 1.0

logger = logging.getLogger(__name__)


class SetAgents(BaseModel):
    """`enabled` switches all agents; `agents` changes settings of single ones (enabled, mode, every, limits), those that are
    not named stay. "file" hands one back to the settings file. What each limit has to be is said in `$defs.Limits`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool | None = None
    agents: Mapping[str, Mapping[str, Any]] = {}


class AcceptSuggestion(BaseModel):
    """A suggestion's id, as its event says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suggestion: str


class AskAgent(BaseModel):
    """An agent's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: str


class Agents:
    """The agents of a run. `start` them, and `close` them at the end; in between they need nobody."""

    def __init__(self, url: str, token: str, run: str, agents: Mapping[str, tuple[Policy, AgentSettings]]) -> None:
        self._client = ControlClient(url, token)
        self._record = Record(self._client, run)
        self._agents = dict(agents)
        self._settled = {name: Settled(settings) for name, (_, settings) in agents.items()}
        self._runners: dict[str, Runner] = {}
        self._enabled = True
        self._stop = threading.Event()
        self._told = 0.0
        self._connection = ActorConnection(
            url, token, run=run, actor=ACTOR, kind=ACTOR, commands=_specs(), revision=0, state={StateKey.AGENTS: {}}
        )
        self._threads = [
            threading.Thread(target=self._follow, name="agents' record", daemon=True),
            threading.Thread(target=self._serve, name="agents' commands", daemon=True),
        ]

    def start(self, wait: float = 10.0) -> Agents:
        """Begin, once the server has said which switches were set before; without it they wait for it."""
        self._connection.start(wait)
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """End; what was begun is finished or told as failed."""
        self._stop.set()
        for runner in self._runners.values():
            runner.stop()
        for thread in self._threads:
            thread.join(3.0)
        self._connection.close("the agents end")
        self._client.close()

    def state(self) -> dict[str, Any]:
        """The agents by name, as people see them."""
        return {name: runner.state() | self._settled[name].shown() for name, runner in self._runners.items()}

    def look(self, name: str, step: int, timeout: float) -> bool:
        """Let an agent look at a step (or a later one) now, and wait until it has: nothing is to be done, or its first
        command is on its way. False after `timeout` seconds, and at once where it waits for the outcome of a command
        from an earlier look: that shows only when training goes on.

        For training that is to be in step with an agent, as that of the paper is.
        """
        end = time.monotonic() + timeout
        if self._record.wait(lambda seen: seen.step >= step, timeout) is None:
            return False
        while (runner := self._runners.get(name)) is None or runner.finished < step:
            if time.monotonic() > end:
                return False
            if runner is not None and runner.waits:
                return runner.finished >= step
            if runner is not None and runner.idle:
                runner.ask()
            time.sleep(0.01)
        return True

    def _follow(self) -> None:
        """Keep the record level with the run, whatever happens to the server."""
        pause = 0.1
        while not self._stop.is_set():
            try:
                self._record.follow(self._stop.is_set)
                pause = 0.1
            except Refused as error:
                logger.info("the run cannot be watched yet: %s", error)
            except ClientError as error:
                logger.warning("the run cannot be watched: %s", error)
            self._stop.wait(pause)
            pause = min(3.0, 2 * pause)

    def _serve(self) -> None:
        """Take up the operators' commands; the runners begin once what was set before is known."""
        while not self._connection.connected and not self._stop.wait(LOOK):
            pass
        past = self._past()
        for name, (policy, settings) in self._agents.items():
            before = past.get(name, Past())
            if isinstance(policy, Remembers):
                policy.remember(before.saw)
            self._runners[name] = Runner(
                name, policy, settings, self._record, self._client, self._tell, self._show, before.spent
            )
        for delivery in self._connection.commands():
            self._obey(delivery)
        for runner in self._runners.values():
            runner.start()
        self._show(now=True)
        while not self._stop.is_set():
            for delivery in self._connection.wait(LOOK):
                self._obey(delivery)

    def _obey(self, delivery: Delivery) -> None:
        command = delivery.command
        handler: Callable[[Delivery], Report | None] = {SET_AGENTS: self._set, ACCEPT: self._accept, ASK: self._ask}[
            command.command
        ]
        try:
            report = handler(delivery)
        except (SettingError, ValueError) as error:
            report = _report(command.uuid, Outcome.REJECTED, _short(error))
        except Exception as error:
            logger.exception("%s", command.command)
            report = _report(command.uuid, Outcome.FAILED, f"a bug: {error!r}")
        if report is not None:
            self._connection.report(report)
        self._show(now=True)

    def _set(self, delivery: Delivery) -> Report:
        command = delivery.command
        wanted = SetAgents.model_validate(command.arguments)
        if delivery.again:
            self._restore(wanted, command)
            return _report(command.uuid, Outcome.SUCCESS)
        fresh: dict[str, tuple[Settled, AgentSettings]] = {}
        for name, changes in wanted.agents.items():
            settled = self._changed(name, changes, command)
            settings = settled.settings()
            self._check(settings.limits, self._runners[name].settings.limits)
            fresh[name] = settled, settings
        if command.dry_run:
            return _report(command.uuid, Outcome.SUCCESS, "a dry run: it would be done")
        before = self._shown(wanted)
        for name, (settled, settings) in fresh.items():
            self._settled[name] = settled
            self._runners[name].configure(settings)
        self._switch(wanted.enabled)
        return _report(command.uuid, Outcome.SUCCESS, before=before, after=self._shown(wanted))

    def _restore(self, wanted: SetAgents, command: Command) -> None:
        """What was set in the life of a process before this one holds again. An agent with which that does not go any
        more, as its settings file is another one, stands still: nobody has said what it may do."""
        for name in wanted.agents.keys() & self._runners.keys():
            runner = self._runners[name]
            try:
                self._settled[name] = self._changed(name, wanted.agents[name], command)
                runner.configure(self._settled[name].settings())
            except SettingError as error:
                logger.warning("agent %s: %s", name, error)
                runner.hold(f"what was set of it does not go with its settings file. {error}")
        self._switch(wanted.enabled)

    def _changed(self, name: str, changes: Mapping[str, Any], command: Command) -> Settled:
        self._named(name)
        return self._settled[name].changed(changes, command.author, command.time)

    def _switch(self, enabled: bool | None) -> None:
        if enabled is not None:
            self._enabled = enabled
            for runner in self._runners.values():
                runner.want(enabled)

    def _check(self, wanted: Limits, known: Limits) -> None:
        """Raises `SettingError` for a limit that binds nothing, as it is about what this run does not have."""
        mixture = self._record.picture().mixture
        sources = wanted.shares if mixture is None else mixture.sources
        for source in sorted(wanted.shares.keys() - known.shares.keys() - sources.keys()):
            there = ", ".join(sources)
            raise SettingError(f"limits.shares: there is no source {source!r}; the sources are {there}")
        unknown = set(wanted.commands) - set(known.commands) - set(CommandName)
        if not unknown:
            return
        taken = {each.spec.name for each in self._client.run(self._connection.run).commands}
        for name in sorted(unknown - taken):
            there = ", ".join(sorted(taken - FORBIDDEN))
            raise SettingError(f"limits.commands: nobody in this run takes {name!r}; these are taken: {there}")

    def _accept(self, delivery: Delivery) -> Report | None:
        """In a thread of its own: the trainer may take its time, and a switch must not wait for it."""
        wanted = AcceptSuggestion.model_validate(delivery.command.arguments)
        command = delivery.command
        if command.dry_run:
            return _report(command.uuid, Outcome.SUCCESS, "a dry run: it would be sent")

        def work() -> None:
            try:
                self._connection.report(self._accepted(wanted.suggestion, command.uuid, command.author))
            except ClientError as error:
                self._connection.report(_report(command.uuid, Outcome.FAILED, str(error)))
            self._show(now=True)

        threading.Thread(target=work, name="accept", daemon=True).start()
        return None

    def _accepted(self, suggestion: str, uuid: str, author: str) -> Report:
        for runner in self._runners.values():
            done = runner.accept(suggestion, author)
            if done is None:
                continue
            last = done[-1]
            if last.outcome is Outcome.SUCCESS:
                return _report(uuid, Outcome.SUCCESS, after=[record.uuid for record in done])
            return _report(uuid, Outcome.FAILED, f"{last.command}: {last.reason}")
        return _report(uuid, Outcome.REJECTED, f"no suggestion {suggestion!r} waits; it was withdrawn, or accepted")

    def _ask(self, delivery: Delivery) -> Report:
        wanted = AskAgent.model_validate(delivery.command.arguments)
        self._named(wanted.agent).ask()
        return _report(delivery.command.uuid, Outcome.SUCCESS)

    def _named(self, name: str) -> Runner:
        try:
            return self._runners[name]
        except KeyError:
            raise ValueError(f"there is no agent {name!r}; there are {', '.join(self._runners) or 'none'}") from None

    def _shown(self, about: SetAgents) -> dict[str, Any]:
        """What holds now of the settings that a command is about."""
        shown: dict[str, Any] = {} if about.enabled is None else {"enabled": self._enabled}
        agents: dict[str, Any] = {}
        for name, changes in about.agents.items():
            state = self._runners[name].state()
            agents[name] = {key: state[key] for key in changes}
            if LIMITS in changes:
                agents[name][LIMITS] = {limit: state[LIMITS][limit] for limit in changes[LIMITS]}
        return shown | ({"agents": agents} if agents else {})

    def _tell(self, content: AgentBody, seen: Observation) -> None:
        level: Literal["info", "warning"] = "warning" if content.action in ("failed", "refused") else "info"
        self._connection.tell(EventType.AGENT, content, step=seen.step, branch=seen.branch, level=level)

    def _show(self, now: bool = False) -> None:
        """Let the server show how the agents stand; at most once a second unless somebody changed it."""
        moment = time.monotonic()
        if now or moment - self._told >= STATE_EVERY:
            self._told = moment
            self._connection.set_state(**{StateKey.AGENTS: {"enabled": self._enabled, "by_name": self.state()}})

    def _past(self) -> dict[str, Past]:
        """What each agent did before, from the record of the run."""
        past: dict[str, Past] = {}
        since = 0
        while not self._stop.is_set():
            try:
                page = self._client.history(since, run=self._connection.run, types=[EventType.AGENT, EventType.BRANCH])
            except ClientError as error:
                logger.warning("what the agents did before is not known: %s", error)
                self._stop.wait(1.0)
                continue
            for event in page.events:
                if event.type is EventType.AGENT:
                    past.setdefault(str(event.body.get("agent")), Past()).take(event)
                elif event.body.get("reason") == "fresh":
                    for each in past.values():
                        each.saw.clear()
            since = page.last
            if not page.more:
                break
        return past


@dataclass
class Past:
    """What an agent did in the lives of its process before: `spent` when it sent commands, `saw` what it acted on.

    A training that is begun anew has seen none of it; the budget of its run is spent nevertheless.
    """

    spent: list[float] = field(default_factory=list)
    saw: list[Mapping[str, Any]] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """One more event of the agent."""
        body = event.body
        sent = [each for each in body.get("commands", ()) if isinstance(each, dict) and "uuid" in each]
        self.spent.extend([event.time] * len(sent))
        carried_out = body.get("action") in ("acted", "accepted") and isinstance(body.get("saw"), dict)
        if carried_out and all(each.get("outcome") == Outcome.SUCCESS for each in sent):
            self.saw.append(body["saw"])


def _specs() -> list[CommandSpec]:
    limits = Limits.model_json_schema()
    return [
        CommandSpec(
            name=SET_AGENTS,
            summary="Switch agents on and off, and set what they may do",
            arguments=SetAgents.model_json_schema()
            | {"$defs": {"Limits": limits}},  # shown; what is wrong we say ourselves
            kind=CommandKind.SETTING,
        ),
        CommandSpec(name=ACCEPT, summary="Do what an agent suggested", arguments=AcceptSuggestion.model_json_schema()),
        CommandSpec(name=ASK, summary="Let an agent look now", arguments=AskAgent.model_json_schema()),
    ]


def _report(uuid: str, outcome: Outcome, reason: str = "", before: Any = None, after: Any = None) -> Report:
    return Report(uuid=uuid, status=outcome.status, outcome=outcome, reason=reason, before=before, after=after)


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']} (given: {first['input']!r:.80})"
    return str(error)
