"""What one training step shows of each layer, read while it happens.

Hooks are on the model for the steps that are looked at and for no other, and what they read stays on the device until
the step is over: one transfer a step that is looked at, none for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

LAYERS = 48
"""Layers that are looked at, spread over the model, where it has more."""
SAMPLED = 4096
"""Values of a parameter whose change is measured, spread over it."""
DEAD = 1e-6
ACTIVATIONS = ("ReLU", "ReLU6", "GELU", "SiLU", "Mish", "LeakyReLU", "ELU", "NewGELU", "QuickGELU", "Activation")


@dataclass(frozen=True)
class LayerNumbers:
    """What a step showed of a layer; None where there was nothing to see.

    `std` is the standard deviation of its output, `dead` the share of units whose activation was (next to) nothing over
    the whole batch, `gradient` the gradient's norm by that of the weights, `update` how far the step moved them, by the
    same.
    """

    layer: str
    std: float | None = None
    dead: float | None = None
    gradient: float | None = None
    update: float | None = None


class Probe:
    """Looks at one model. `attach` before a step, `before_update` and `after_update` around its update, `detach` after."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._blocks = _spread([name for name in _blocks(model) if name])
        self._active = _spread([name for name, module in model.named_modules() if _is_activation(module)])
        self._hooks: list[Any] = []
        self._std: dict[str, torch.Tensor] = {}
        self._dead: dict[str, torch.Tensor] = {}
        self._weights: dict[str, list[tuple[nn.Parameter, torch.Tensor]]] = {}
        self._gradient: dict[str, torch.Tensor] = {}
        self._update: dict[str, torch.Tensor] = {}

    def attach(self, saw_rows: Callable[[torch.Tensor], object] | None = None) -> None:
        """Begin to look. `saw_rows` gets the loss of each row of every batch, from a model that shows what makes it."""
        self.detach()
        for name in self._blocks:
            self._hooks.append(self._model.get_submodule(name).register_forward_hook(self._seeing_output(name)))
        for name in self._active:
            self._hooks.append(self._model.get_submodule(name).register_forward_hook(self._seeing_units(name)))
        if saw_rows is not None:

            def rows(_: nn.Module, __: Any, given: dict[str, Any], output: Any) -> None:
                losses = row_losses(output, given.get("labels"))
                if losses is not None:
                    saw_rows(losses)

            self._hooks.append(self._model.register_forward_hook(rows, with_kwargs=True))

    @torch.no_grad()
    def before_update(self) -> None:
        """Gradients are whole, weights are those of before."""
        for name in self._blocks:
            parameters = [p for p in self._model.get_submodule(name).parameters() if p.grad is not None and p.numel()]
            if not parameters:
                continue
            norms = torch.stack([torch.linalg.vector_norm(p.detach().float()) for p in parameters])
            gradients = torch.stack([torch.linalg.vector_norm(p.grad.detach().float()) for p in parameters])  # type: ignore[union-attr]
            self._gradient[name] = _norm(gradients) / _norm(norms).clamp_min(1e-12)
            self._weights[name] = [(p, _sampled(p).clone()) for p in parameters]

    @torch.no_grad()
    def after_update(self) -> None:
        """The optimizer has moved the weights."""
        for name, kept in self._weights.items():
            moved = torch.stack([torch.linalg.vector_norm((_sampled(p) - was).float()) for p, was in kept])
            sizes = torch.stack([torch.linalg.vector_norm(was.float()) for _, was in kept])
            self._update[name] = _norm(moved) / _norm(sizes).clamp_min(1e-12)
        self._weights.clear()

    def read(self) -> list[LayerNumbers]:
        """What was seen since `attach`, in the order of the layers."""
        tables = {"std": self._std, "dead": self._dead, "gradient": self._gradient, "update": self._update}
        keys = [(kind, name) for kind, table in tables.items() for name in table]
        if not keys:
            return []
        values = torch.stack([tables[kind][name].float() for kind, name in keys]).tolist()
        found: dict[str, dict[str, float]] = {}
        for (kind, name), value in zip(keys, values, strict=True):
            found.setdefault(name, {})[kind] = value
        order = {name: place for place, (name, _) in enumerate(self._model.named_modules())}
        return [LayerNumbers(name, **found[name]) for name in sorted(found, key=order.__getitem__)]

    def detach(self) -> None:
        """Look no more, and forget."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for table in (self._std, self._dead, self._gradient, self._update, self._weights):
            table.clear()

    def _seeing_output(self, name: str) -> Callable[..., None]:
        @torch.no_grad()
        def see(module: nn.Module, _: Any, output: Any) -> None:
            hidden = _first_tensor(output)
            if module.training and hidden is not None and hidden.numel() > 1:
                self._std[name] = hidden.detach().float().std()

        return see

    def _seeing_units(self, name: str) -> Callable[..., None]:
        @torch.no_grad()
        def see(module: nn.Module, _: Any, output: Any) -> None:
            active = _first_tensor(output)
            if not module.training or active is None or active.ndim < 2:
                return
            units = 1 if active.ndim == 4 else active.ndim - 1  # [batch, channel, …] of images, […, unit] of all others
            others = [axis for axis in range(active.ndim) if axis != units]
            self._dead[name] = (active.detach().abs().amax(others) <= DEAD).float().mean()

        return see


def row_losses(output: Any, labels: Any) -> torch.Tensor | None:
    """The loss of each row of a batch from a model's logits, without a gradient; None where they do not tell.

    Words are shifted by one as causal language models of transformers do; labels of -100 do not count.
    """
    logits = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", None)
    if not isinstance(logits, torch.Tensor) or not isinstance(labels, torch.Tensor) or labels.is_floating_point():
        return None
    if logits.ndim == 2 and labels.ndim == 1:
        return functional.cross_entropy(logits.detach().float(), labels, reduction="none")
    if logits.ndim != 3 or logits.shape[:2] != labels.shape or labels.shape[1] < 2:
        return None
    words, wanted = logits.detach()[:, :-1].float(), labels[:, 1:]
    losses = functional.cross_entropy(words.transpose(1, 2), wanted, ignore_index=-100, reduction="none")
    counted = (wanted != -100).sum(1).clamp_min(1)
    return losses.sum(1) / counted


def _blocks(model: nn.Module) -> Iterator[str]:
    """The layers that a model is a row of: the members of its lists; of a model without any, its own children."""
    found = [
        f"{name}.{key}" if name else key
        for name, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential))
        for key, _ in module.named_children()
    ]
    outer = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    yield from outer or [name for name, _ in model.named_children()]


def _is_activation(module: nn.Module) -> bool:
    return not any(True for _ in module.parameters()) and any(
        kind.__name__.startswith(ACTIVATIONS) or kind.__name__.endswith("Activation") for kind in type(module).__mro__
    )


def _spread(names: Sequence[str]) -> list[str]:
    if len(names) <= LAYERS:
        return list(names)
    return [names[place * len(names) // LAYERS] for place in range(LAYERS)]


def _sampled(parameter: torch.Tensor) -> torch.Tensor:
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLED)][:SAMPLED]


def _norm(norms: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(norms)
    return norm


def _first_tensor(output: Any) -> torch.Tensor | None:
    if isinstance(output, torch.Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, (tuple, list)):
        return next((found for each in output if (found := _first_tensor(each)) is not None), None)
    if isinstance(output, dict):
        return next((found for each in output.values() if (found := _first_tensor(each)) is not None), None)
    return None
