"""What operators set of an agent, over what its settings file says.

Both are desired state, and the operators' is the newer one: a setting that somebody chose holds until somebody chooses
another or hands it back to the file, whatever the file says meanwhile and however often processes are started again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from control.agents.limits import Limits
from control.agents.settings import AgentSettings
from control.errors import ControlError

FILE: Final = "file"
"""As the value of a setting: what the settings file says is to hold again."""

LIMITS: Final = "limits"
SETTABLE: Final = ("enabled", "mode", "every")
"""What an operator sets of an agent, beside its limits."""


class SettingError(ControlError):
    """A setting of an agent is not what it has to be; the message names the value, the rule and the way out."""


@dataclass(frozen=True)
class Choice:
    """A value that somebody chose; `time` in Unix seconds."""

    value: Any
    author: str
    time: float


@dataclass(frozen=True)
class Settled:
    """The settings of one agent: those of its `file`, and over them the `chosen`, by name (`mode`, `limits.max_lr`)."""

    file: AgentSettings
    chosen: Mapping[str, Choice] = field(default_factory=dict)

    def changed(self, changes: Mapping[str, Any], author: str, time: float) -> Settled:
        """With some settings, and some limits, chosen anew or handed back to the file.

        Raises `SettingError` for a name that there is not; what the values come to together is `settings`' business.
        """
        chosen = dict(self.chosen)
        for name, value in _named(changes):
            chosen.pop(name, None)
            if value != FILE:
                chosen[name] = Choice(value, author, time)
        return Settled(self.file, chosen)

    def settings(self) -> AgentSettings:
        """The settings that hold. Raises `SettingError` where a value is wrong, or does not go with the others."""
        given = self.file.model_dump()
        for name, choice in self.chosen.items():
            group, _, limit = name.rpartition(".")
            (given[group] if group else given)[limit] = choice.value
        try:
            return type(self.file).model_validate(given)
        except ValidationError as error:
            raise SettingError(explained(error, type(self.file))) from None

    def shown(self) -> dict[str, Any]:
        """Who set what, and what the file says of it, for people."""
        return {
            "chosen": {name: {"author": each.author, "time": each.time} for name, each in self.chosen.items()},
            FILE: self.file.model_dump(mode="json", include={*SETTABLE, LIMITS}),
        }


def explained(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong with the first value that `model` refused, by the rule that its field is described with."""
    first = error.errors()[0]
    where = [part for part in first["loc"] if isinstance(part, str)]
    if first["type"] == "value_error":  # one of our own, which names the limit where it is about several
        return f"{'.'.join(where)}{'.' if where == [LIMITS] else ': '}{first['ctx']['error']}"
    fields = model.model_fields
    at: list[str] = []
    for part in where:
        if part not in fields:
            break
        at.append(part)
        if part == LIMITS:
            fields = Limits.model_fields
    rule = fields[at[-1]].description if at else None
    return f"{'.'.join(at or where)}: it is {first['input']!r:.80}, but it is {rule or first['msg']}"


def _named(changes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in changes.items():
        if name == LIMITS:
            yield from _limits(value)
        elif name in SETTABLE:
            yield name, value
        else:
            raise SettingError(f"{name!r} is no setting of an agent; these are: {', '.join((*SETTABLE, LIMITS))}")


def _limits(given: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(given, Mapping):
        raise SettingError(f'limits: it is {given!r:.80}, but it is an object, as {{"max_lr": 0.001}}')
    for name, value in given.items():
        if name not in Limits.model_fields:
            raise SettingError(f"limits: {name!r} is no limit; these are: {', '.join(Limits.model_fields)}")
        yield f"{LIMITS}.{name}", value
