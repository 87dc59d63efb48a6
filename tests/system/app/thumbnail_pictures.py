"""What a version of the tiny app's model looks like: its first layer's weights as a picture. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

NAME = "conv_in.weight"


def samples(folder: Path) -> Mapping[str, NDArray[np.uint8]]:
    """The weights [out, in, 3, 3], one row of pixels for each output channel, from black (least) to white."""
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")[NAME]
    rows = weights.reshape(len(weights), -1)
    scaled = (rows - rows.min()) / max(float(np.ptp(rows)), 1e-9)
    return {"its first layer": np.kron((scaled * 255).astype(np.uint8), np.ones((8, 8), np.uint8))}
