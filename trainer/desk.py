"""Where commands are taken: each gets exactly one outcome, and none of them can end training by being wrong."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from control import Command, Delivery, Outcome, Report, Status
from trainer.command import CommandType, Later, Plan, StepDone, command_type
from trainer.errors import CommandError, CommandRejected, TrainerError

if TYPE_CHECKING:
    from trainer.steering import Steering

REMEMBERED = 4096
"""Uuids of finished commands that are known again when a reconnect delivers them twice."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Open:
    """A command whose effect is still to show."""

    delivered: Delivery
    plan: Plan
    after: Any
    later: Later


class Desk:
    """Carries commands out, one after the other, on every rank alike; rank 0 reports."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._open: dict[str, _Open] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()
        self.current: str | None = None
        """The uuid of the command that is being carried out."""

    @property
    def waits_for_steps(self) -> bool:
        """Whether a command waits for a completed step to show its effect."""
        return any(command.later.until is not None for command in self._open.values())

    def take(self, delivered: Delivery) -> None:
        """Carry one command out. Never raises for what a command says or does."""
        command = delivered.command
        if command.uuid in self._open or command.uuid in self._finished:
            return  # delivered twice by a reconnect: it has its outcome, or will
        try:
            plan, kind = self._agreed_plan(command)
        except CommandRejected as refusal:
            self._end(delivered, Outcome.REJECTED, str(refusal))
            return
        if command.dry_run:
            self._end(delivered, Outcome.SUCCESS, "dry run: nothing was changed", plan, plan.after)
            return
        self._carry_out(delivered, plan, kind)

    def step_done(self, done: StepDone) -> None:
        """End the commands whose effect this step showed."""
        for uuid, waiting in list(self._open.items()):
            if waiting.later.until is not None and waiting.later.until(done):
                del self._open[uuid]
                self._end(waiting.delivered, Outcome.SUCCESS, "", waiting.plan, waiting.after, done.step)

    def settle(self, uuid: str, outcome: Outcome, reason: str = "", after: Any = None) -> None:
        """End a command that somebody began and that waits for no step; one that is not open is left as it is."""
        waiting = self._open.pop(uuid, None)
        if waiting is not None:
            shown = waiting.after if after is None else after
            self._end(waiting.delivered, outcome, reason, waiting.plan, shown)

    def settle_all(self, outcome: Outcome, reason: str, but: str | None = None) -> None:
        """End every open command, except one."""
        for uuid in [uuid for uuid in self._open if uuid != but]:
            self.settle(uuid, outcome, reason)

    def refuse(self, delivered: Delivery, reason: str) -> None:
        """End a command that never had its turn."""
        if delivered.command.uuid not in self._finished:
            self._end(delivered, Outcome.FAILED, reason)

    # Within

    def _agreed_plan(self, command: Command) -> tuple[Plan, CommandType[Any]]:
        """The plan, made on each rank; raises `CommandRejected` on all where one refuses."""
        plan, kind, problem = None, None, ""
        try:
            kind = command_type(command.command)
            bounds = self._steering.settings.bounds.get(kind.name, {})
            plan = kind.handler(self._steering, kind.parse(command.arguments, bounds))
        except TrainerError as refusal:
            problem = str(refusal)
        except Exception as error:  # a handler of some package: what it raises must not end training
            logger.exception("command %s %s cannot be planned", command.command, command.uuid)
            problem = f"{command.command}: {type(error).__name__}: {error}"
        problem = _first(self._steering.ranks.gather(problem))
        if problem or plan is None or kind is None:
            raise CommandRejected(problem)
        return plan, kind

    def _carry_out(self, delivered: Delivery, plan: Plan, kind: CommandType[Any]) -> None:
        self._say(delivered, Status.RUNNING)
        result: object = None
        problem = ""
        self.current = delivered.command.uuid
        try:
            result = plan.apply()
        except CommandError as failure:
            problem = str(failure)
        except Exception as error:  # "no command ends training": whatever went wrong is the command's outcome
            logger.exception("command %s %s failed", kind.name, delivered.command.uuid)
            problem = f"{type(error).__name__}: {error}"
        finally:
            self.current = None
        problem = _first(self._steering.ranks.gather(problem))
        if problem:
            self._end(delivered, Outcome.FAILED, problem, plan, plan.before)
            return
        self._steering.applied(delivered, kind, plan)
        if isinstance(result, Later):
            self._open[delivered.command.uuid] = _Open(delivered, plan, plan.after, result)
        else:
            self._end(delivered, Outcome.SUCCESS, "", plan, plan.after if result is None else result)

    def _end(
        self,
        delivered: Delivery,
        outcome: Outcome,
        reason: str,
        plan: Plan | None = None,
        after: Any = None,
        step: int | None = None,
    ) -> None:
        command = delivered.command
        self._finished[command.uuid] = None
        while len(self._finished) > REMEMBERED:
            self._finished.popitem(last=False)
        shown: Mapping[str, Any] = {}
        if plan is not None:
            shown = {"before": _plain(plan.before), "after": _plain(after), "takes_effect_at": plan.takes_effect_at}
        self._say(delivered, outcome.status, outcome=outcome, reason=reason, step=step, **shown)
        logger.info("%s %s: %s%s", command.command, command.uuid, outcome.value, f" ({reason})" if reason else "")

    def _say(self, delivered: Delivery, status: Status, **rest: Any) -> None:
        if not self._steering.ranks.main:
            return
        step = rest.pop("step", None)
        at = self._steering.step if step is None else step
        self._steering.link.report(Report(uuid=delivered.command.uuid, status=status, step=at, **rest))


def _first(problems: list[str]) -> str:
    return next((problem for problem in problems if problem), "")


def _plain(value: object) -> Any:
    """The value in JSON types; what has none is shown as text."""
    return msgspec.to_builtins(value, enc_hook=str)
