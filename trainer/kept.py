"""Settings of a package's own commands over checkpoints: what was set is kept as arguments, and set again from them.

The trainer knows what its own settings touch and saves that. Of a setting that a package has registered it knows the
arguments only, so those are saved, and a resume or a load carries the command out again; what the checkpoint does not
hold is taken back by `Plan.undo`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from control import Command
from control.knobs import lasting
from trainer.command import CommandType, command_type
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.steering import Steering

logger = logging.getLogger(__name__)


class KeptSetting(msgspec.Struct, frozen=True):
    """A setting that holds, as it was sent."""

    command: str
    arguments: Mapping[str, Any]


class KeptSettings:
    """The settings of packages that hold now, in the order in which they were made."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._holding: list[KeptSetting] = []
        self._undo: list[tuple[str, Callable[[], object] | None]] = []

    def applied(self, kind: CommandType[Any], arguments: Mapping[str, Any], undo: Callable[[], object] | None) -> None:
        """A command was carried out."""
        if not kind.kept:
            return
        self._holding.append(KeptSetting(kind.name, dict(arguments)))
        self._undo.append((kind.name, undo))
        self._holding = _lasting(self._holding)

    def state(self) -> tuple[KeptSetting, ...]:
        """What a checkpoint keeps."""
        return tuple(self._holding)

    def restore(self, state: Sequence[KeptSetting]) -> None:
        """Make all of it as the checkpoint says. What cannot be done is said, and costs that setting only."""
        if list(state) == self._holding:
            return
        for name, undo in reversed(self._undo):
            self._try(name, undo if undo is not None else _cannot_be_undone)
        self._holding, self._undo = [], []
        for setting in state:
            self._try(setting.command, lambda setting=setting: self._again(setting))  # type: ignore[misc]

    def _again(self, setting: KeptSetting) -> None:
        kind = command_type(setting.command)
        plan = kind.handler(self._steering, kind.parse(setting.arguments, {}))
        plan.apply()
        self.applied(kind, setting.arguments, plan.undo)

    def _try(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except TrainerError as error:
            self._steering.reporter.health("setting", f"{name}: {error}")
        except Exception as error:  # a package's handler: what it raises must not end training
            logger.exception("the setting %s could not be restored", name)
            self._steering.reporter.health("setting", f"{name}: {type(error).__name__}: {error}")


def _lasting(settings: Sequence[KeptSetting]) -> list[KeptSetting]:
    commands = [_command(setting) for setting in settings]
    by_uuid = {command.uuid: setting for command, setting in zip(commands, settings, strict=True)}
    return [by_uuid[command.uuid] for command in lasting(commands)]


def _command(setting: KeptSetting) -> Command:
    return Command(command=setting.command, arguments=dict(setting.arguments))


def _cannot_be_undone() -> None:
    raise TrainerError("it does not say how it is undone (`Plan.undo`), so it holds on in the state that was loaded")
