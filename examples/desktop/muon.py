"""Muon (Jordan 2024, scaled as in Liu et al. 2025): an optimizer by which the desktop's model learns in fewer steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Muon"]


class Muon(torch.optim.Optimizer):
    """Muon for the weights of hidden convolutions, AdamW without weight decay for all else, under one learning rate.

    A convolution's weight is taken as the matrix [out, in x height x width]; its momentum is made nearly orthogonal, and
    scaled to the size that AdamW's steps have.
    """

    def __init__(self, model: torch.nn.Module, lr: float, momentum: float = 0.95) -> None:
        named = list(model.named_parameters())
        hidden = [p for name, p in named if p.ndim == 4 and not name.startswith(("conv_in", "conv_out"))]
        known = {id(p) for p in hidden}
        rest = [p for _, p in named if id(p) not in known]
        groups: list[dict[str, Any]] = [
            {"params": hidden, "momentum": momentum},
            {"params": rest, "betas": (0.9, 0.99), "eps": 1e-8},
        ]
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; every parameter has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if "momentum" in group:
                    self._orthogonal(parameter, state, group)
                else:
                    self._adam(parameter, state, group)

    @staticmethod
    def _orthogonal(parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean: torch.Tensor = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        assert parameter.grad is not None
        update = orthogonalized(parameter.grad.lerp(mean, group["momentum"]).flatten(1))
        parameter.add_(update.view_as(parameter), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)

    @staticmethod
    def _adam(parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter), count=0)
        gradient, (beta1, beta2) = parameter.grad, group["betas"]
        assert gradient is not None
        state["count"] += 1
        mean = state["mean"].lerp_(gradient, 1 - beta1) / (1 - beta1 ** state["count"])
        square = state["square"].lerp_(gradient.square(), 1 - beta2) / (1 - beta2 ** state["count"])
        parameter.sub_(mean / (square.sqrt() + group["eps"]), alpha=group["lr"])


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix whose singular values are all about 1, by five Newton-Schulz steps (Jordan 2024).

    Every step multiplies from the left by a polynomial of the matrix's Gram matrix, which is small; so the steps are
    taken there, and the matrix itself is multiplied once.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    total = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(5):
        step = -4.7750 * gram + 2.0315 * gram @ gram
        step.diagonal().add_(3.4445)
        total = step @ total
        gram = step @ gram @ step
    near: torch.Tensor = total @ x
    return near if wide else near.T
