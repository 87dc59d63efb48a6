"""What may be done to the layers of a model while it trains: named operations and named numbers, nothing else.

The published code of the paper lets a command call any method of any module, which is a way to write files; here a
command names one of a few methods and attributes, by the class of the layer, and values are checked.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.compat import reinitialize
from trainer.errors import CommandFailed, CommandRejected

RESET = "reset_parameters"
FREEZE = "requires_grad_"
UNIT = (0.0, 1.0)
POSITIVE = (1e-12, math.inf)

NUMBERS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "_DropoutNd": {"p": UNIT},
    "LayerNorm": {"eps": POSITIVE},
    "RMSNorm": {"eps": POSITIVE},
    "GroupNorm": {"eps": POSITIVE},
    "_NormBase": {"eps": POSITIVE, "momentum": UNIT},
    "LeakyReLU": {"negative_slope": (-math.inf, math.inf)},
    "ELU": {"alpha": (-math.inf, math.inf)},
}
"""Attributes that may be set, by class (or a class above it), with the values that they may have."""


class Layers:
    """The layers of one model as commands see them, and what commands have changed on them.

    Changes of attributes and of `requires_grad` live in no state dict, so they are kept here and in checkpoints.
    """

    def __init__(
        self,
        model: nn.Module,
        operations: Mapping[str, tuple[str, ...]] | None = None,
        parameters: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._model = model
        self._operations = operations or {}
        self._numbers = parameters or {}
        self._changed: dict[str, dict[str, Any]] = {}
        self._original: dict[str, dict[str, Any]] = {}

    def find(self, name: str) -> nn.Module:
        """The layer of that dotted name ("" is the model). Raises `CommandRejected`."""
        try:
            return self._model.get_submodule(name)
        except AttributeError:
            raise CommandRejected(f"layer_name: the model has no layer {name!r}; {self._neighbours(name)}") from None

    # Operations

    def operations(self, layer: nn.Module) -> list[str]:
        """The methods that may be called on a layer."""
        allowed = [FREEZE] if any(True for _ in layer.parameters()) else []
        if self._can_reset(layer):
            allowed.append(RESET)
        for kind in type(layer).__mro__:
            allowed.extend(name for name in self._operations.get(kind.__name__, ()) if name not in allowed)
        return allowed

    def operation(self, name: str, operation: str, params: Mapping[str, Any]) -> Callable[[], None]:
        """A call of an allowed method, checked. Raises `CommandRejected`."""
        layer = self.find(name)
        allowed = self.operations(layer)
        if operation not in allowed:
            raise CommandRejected(
                f"operation_name: {operation!r} may not be called on {name or 'the model'} ({type(layer).__name__}); "
                f"allowed: {', '.join(allowed) or 'nothing'}"
            )
        if operation == RESET:
            _refuse_params(operation, params)
            return lambda: self._reset(layer)
        if operation == FREEZE:
            return self._freeze(name, layer, params)
        method = getattr(layer, operation)
        try:
            bound = inspect.signature(method).bind(**params)
        except TypeError as error:
            raise CommandRejected(f"params: {operation} of {type(layer).__name__}: {error}") from None

        def call() -> None:
            method(*bound.args, **bound.kwargs)

        return call

    def _can_reset(self, layer: nn.Module) -> bool:
        if not any(True for _ in layer.parameters()):
            return False
        return isinstance(self._model, PreTrainedModel) or bool(_resettable(layer))

    def _reset(self, layer: nn.Module) -> None:
        with torch.no_grad():
            if isinstance(self._model, PreTrainedModel):
                reinitialize(self._model, layer)
            else:
                for module in _resettable(layer):
                    module.reset_parameters()  # type: ignore[operator]
        for name, parameter in layer.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise CommandFailed(f"{RESET}: {name} of {type(layer).__name__} still has values that are not finite")

    def _freeze(self, name: str, layer: nn.Module, params: Mapping[str, Any]) -> Callable[[], None]:
        if set(params) - {"requires_grad"} or not isinstance(params.get("requires_grad", True), bool):
            raise CommandRejected(f'params: {FREEZE} takes {{"requires_grad": true or false}}, not {dict(params)!r}')
        wanted = params.get("requires_grad", True)
        left = [p for n, p in self._model.named_parameters() if p.requires_grad and not _inside(n, name)]
        if not wanted and not left:
            raise CommandRejected(
                f"params: freezing {name or 'the model'} leaves nothing to train; pause training instead"
            )

        def freeze() -> None:
            for parameter, _ in layer.named_parameters(prefix=name):
                self._set(parameter, "requires_grad", wanted)

        return freeze

    # Attributes

    def numbers(self, layer: nn.Module) -> dict[str, tuple[float, float]]:
        """The attributes that may be set on a layer, with the values that they may have."""
        allowed: dict[str, tuple[float, float]] = {}
        for kind in type(layer).__mro__:
            allowed.update(NUMBERS.get(kind.__name__, {}))
            allowed.update(dict.fromkeys(self._numbers.get(kind.__name__, ()), (-math.inf, math.inf)))
        return {name: limits for name, limits in allowed.items() if _is_number(getattr(layer, name, None))}

    def number(self, name: str, attribute: str, value: object) -> tuple[Any, Callable[[], None]]:
        """The attribute as it is, and a call that sets it, checked. Raises `CommandRejected`."""
        layer = self.find(name)
        allowed = self.numbers(layer)
        where = f"{name or 'the model'} ({type(layer).__name__})"
        if attribute not in allowed:
            raise CommandRejected(
                f"param_name: {attribute!r} may not be set on {where}; allowed: {', '.join(allowed) or 'nothing'}"
            )
        before = getattr(layer, attribute)
        low, high = allowed[attribute]
        if not _is_number(value) or not math.isfinite(value):  # type: ignore[arg-type]
            raise CommandRejected(f"value: {attribute} of {where} is a number, as {before!r}, not {value!r}")
        if not low <= value <= high:  # type: ignore[operator]
            raise CommandRejected(f"value: {attribute} of {where} lies between {low:g} and {high:g}, not at {value!r}")
        typed = type(before)(value)
        return before, lambda: self._set(name, attribute, typed)

    # What is kept

    def state(self) -> dict[str, dict[str, Any]]:
        """Everything that differs from how the model was built, by layer or parameter."""
        return {name: dict(changed) for name, changed in self._changed.items() if changed}

    def restore(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Make all of it as `state` says, and everything else as the model was built."""
        for name, changed in list(self._changed.items()):
            for attribute in list(changed):
                if attribute not in state.get(name, {}):
                    self._set(name, attribute, self._original[name][attribute])
                    del changed[attribute]
        for name, wanted in state.items():
            for attribute, value in wanted.items():
                self._set(name, attribute, value)

    def _set(self, name: str, attribute: str, value: object) -> None:
        target: Any = self._model.get_parameter(name) if attribute == "requires_grad" else self.find(name)
        self._original.setdefault(name, {}).setdefault(attribute, getattr(target, attribute))
        setattr(target, attribute, value)
        self._changed.setdefault(name, {})[attribute] = value

    # What is shown

    def tree(self, layer: nn.Module | None = None, name: str = "") -> dict[str, Any]:
        """The layers with what may be done to each, as the dashboard's model panel reads them."""
        layer = self._model if layer is None else layer
        prefix = f"{name}." if name else ""
        return {
            "name": name,
            "module_type": type(layer).__name__,
            "operators": self.operations(layer),
            "hyperparameters": [{"name": key, "value": getattr(layer, key)} for key in self.numbers(layer)],
            "children": [self.tree(child, prefix + key) for key, child in layer.named_children()],
        }

    def _neighbours(self, name: str) -> str:
        parent = name
        while parent:
            parent = parent.rpartition(".")[0]
            try:
                children = [key for key, _ in self._model.get_submodule(parent).named_children()]
            except AttributeError:
                continue
            return f"{parent or 'the model'} has {', '.join(children[:8]) or 'no layers'}"
        return "give the name of a layer"


def parameters_of(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of one layer, under the names that they have in the model."""
    inside = {id(parameter) for parameter in model.get_submodule(name).parameters()}
    for full, parameter in model.named_parameters():
        if id(parameter) in inside:
            yield full, parameter


def _resettable(layer: nn.Module) -> list[nn.Module]:
    own = getattr(layer, RESET, None)
    if callable(own):
        return [layer]
    found = [module for child in layer.children() for module in _resettable(child)]
    covered = {id(parameter) for module in found for parameter in module.parameters()}
    # only a part of a layer made new is not what a reset says, so all of its weights must be reached
    return found if all(id(parameter) in covered for parameter in layer.parameters()) else []


def _refuse_params(operation: str, params: Mapping[str, Any]) -> None:
    if params:
        raise CommandRejected(f"params: {operation} takes none, not {dict(params)!r}")


def _inside(parameter: str, layer: str) -> bool:
    return not layer or parameter.startswith(f"{layer}.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
