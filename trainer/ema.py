"""The moving average of the weights: what is evaluated and published, as diffusion models are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from trainer.errors import CheckpointForeign
from trainer.settings import EmaSettings

FORMAT = "stovetop-ema-1"
FILE = "ema.safetensors"


class Ema:
    """Averages the parameters of one module, on the module's device, in the module's dtype."""

    def __init__(self, model: torch.nn.Module, settings: EmaSettings) -> None:
        from diffusers.training_utils import EMAModel  # seconds to import, and most trainings have no use for it

        self._names, self._parameters = zip(*model.named_parameters(), strict=True)
        self._average = EMAModel(self._parameters, decay=settings.decay, foreach=True)

    @property
    def updates(self) -> int:
        """How many optimizer steps went into the average."""
        return int(self._average.optimization_step)

    def update(self) -> None:
        """Take in the weights as they are now; call it once after each optimizer step."""
        self._average.step(self._parameters)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The averaged weights by parameter name; not copies."""
        return dict(zip(self._names, self._average.shadow_params, strict=True))

    def forget(self, names: Collection[str]) -> None:
        """Begin anew for some parameters, from what they are now."""
        for name, shadow, parameter in zip(self._names, self._average.shadow_params, self._parameters, strict=True):
            if name in names:
                shadow.copy_(parameter.detach())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights inside; afterwards it has its own again, to the bit. Nothing is copied."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for parameter, shadow in zip(self._parameters, self._average.shadow_params, strict=True):
            parameter.data, shadow.data = shadow.data, parameter.data

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint's folder."""
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors().items()}
        save_file(tensors, folder / FILE, metadata={"format": FORMAT, "updates": str(self.updates)})

    def load(self, folder: Path) -> None:
        """Go on with the average of a checkpoint. Raises `CheckpointForeign` where it is that of another model."""
        with safe_open(folder / FILE, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointForeign(
                    f"{folder / FILE}: format {metadata.get('format')!r}, only {FORMAT!r} is known here"
                )
            own = self.tensors()
            if set(file.keys()) != set(own):
                odd = sorted(set(file.keys()) ^ set(own))[:3]
                raise CheckpointForeign(f"{folder / FILE}: averages another model (differs in {', '.join(odd)})")
            for name, shadow in own.items():
                shadow.copy_(file.get_tensor(name))
        self._average.optimization_step = int(metadata["updates"])
