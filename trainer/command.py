"""What a command is to the trainer: a name, the shape of its arguments, and a handler that makes a plan.

A handler looks, checks and promises, and touches nothing; what it returns says what will be when it is carried out. So
a dry run is the plan alone, and on several ranks all agree before any of them acts. This is also the paper's A.3: a
package registers a command of its own, and it shows in the server, its schema, the command line and the dashboard.

    class Soften(Arguments):
        delta: float = Field(gt=0)

    def soften(steering: Steering, arguments: Soften) -> Plan:
        loss, before = steering.trainer.loss, steering.trainer.loss.delta
        return Plan(
            before=before,
            after=arguments.delta,
            apply=lambda: loss.soften(arguments.delta),
            undo=lambda: loss.soften(before),
        )

    register_command("soften_loss", Soften, soften, summary="Make the loss softer", kind=CommandKind.SETTING)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from control.protocol import CommandKind, CommandSpec
from trainer.bounds import check_bounds, narrow_schema
from trainer.errors import CommandRejected

if TYPE_CHECKING:
    from trainer.steering import Steering


class Arguments(BaseModel):
    """The arguments of a command: frozen, and a name that is not known is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoArguments(Arguments):
    """For commands that take none."""


@dataclass(frozen=True)
class StepDone:
    """A completed optimizer step. `version` is the oldest version of mixture weights among its batches, on any rank; -1
    where there is no mixture."""

    step: int
    version: int = -1


@dataclass(frozen=True)
class Later:
    """What `Plan.apply` returns when the effect is still to show: the command stays `running` until then.

    `until` is asked after every completed step; None: whoever began it ends it.
    """

    until: Callable[[StepDone], bool] | None = None


@dataclass(frozen=True)
class Plan:
    """What a command will do. Both values are shown as they are, so they are of JSON types.

    `apply` does it, on every rank; what it returns (unless None or `Later`) is shown instead of `after`. It may raise
    `CommandFailed`; any other exception is a failure too, and training goes on all the same. `takes_effect_at` is the
    first step that shows it. `undo` takes a setting back, for a load of a checkpoint that does not hold it.
    """

    apply: Callable[[], object]
    before: Any = None
    after: Any = None
    takes_effect_at: int | None = None
    undo: Callable[[], object] | None = None


A = TypeVar("A", bound=Arguments)
Handler = Callable[["Steering", A], Plan]


@dataclass(frozen=True)
class CommandType(Generic[A]):
    """A command that trainers take."""

    name: str
    arguments: type[A]
    handler: Handler[A]
    summary: str = ""
    destructive: bool = False
    kind: CommandKind = CommandKind.ACTION
    kept: bool = False

    def spec(self, bounds: Mapping[str, tuple[float, float]]) -> CommandSpec:
        """How it is shown, with this trainer's bounds in the schema."""
        return CommandSpec(
            name=self.name,
            summary=self.summary,
            arguments=narrow_schema(self.arguments.model_json_schema(), bounds),
            destructive=self.destructive,
            kind=self.kind,
        )

    def parse(self, given: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]]) -> A:
        """The arguments, checked. Raises `CommandRejected`, naming each that is wrong."""
        try:
            arguments = self.arguments.model_validate(given)
        except ValidationError as error:
            raise CommandRejected(f"{self.name}: {'; '.join(_problems(error))}") from None
        check_bounds(self.name, arguments.model_dump(), bounds)
        return arguments


_types: dict[str, CommandType[Any]] = {}


def register_command(
    name: str,
    arguments: type[A],
    handler: Handler[A],
    *,
    summary: str = "",
    destructive: bool = False,
    kind: CommandKind = CommandKind.ACTION,
    kept: bool | None = None,
) -> None:
    """Let every trainer that starts from now on take the command `name`.

    `kind` says what becomes of it when the trainer dies: a setting is applied again on resume, an action is not. Its
    arguments are `kept` in checkpoints, so they have to say a value and not a change of it; `kept=False` is for a
    setting that the model, the optimizer or the data saves by itself. Raises ValueError where another handler has the
    name.
    """
    name = str(name)
    known = _types.get(name)
    if known is not None and known.handler is not handler:
        raise ValueError(f"command {name!r} is taken by {known.handler.__module__}; register yours under another name")
    keeps = kind is CommandKind.SETTING if kept is None else kept
    _types[name] = CommandType(name, arguments, handler, summary, destructive, kind, keeps)


def command_types() -> dict[str, CommandType[Any]]:
    """All registered commands by name."""
    return dict(_types)


def command_type(name: str) -> CommandType[Any]:
    """The command of that name. Raises `CommandRejected`, with the nearest one that is known."""
    known = _types.get(name)
    if known is not None:
        return known
    near = get_close_matches(name, _types, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(_types))}"
    raise CommandRejected(f"command: {name!r} is not one that this trainer takes{hint}")


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "arguments"
        value = "" if problem["type"] == "missing" else f" (got {_short(problem['input'])})"
        problems.append(f"{where}: {problem['msg'][:1].lower()}{problem['msg'][1:]}{value}")
    return problems


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
