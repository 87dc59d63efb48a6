"""The model that paints the screen: a stock diffusers UNet that denoises the next frame's change.

Nothing here is special to this project: the model is a `UNet2DModel` and the noise a `DDIMScheduler`, both loaded by
plain `from_pretrained` from the folder `base/`. The UNet takes the noisy sample and the condition, one after the other
on the channels (`codec`), and predicts the clean sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from numpy.typing import NDArray

from examples.desktop import codec
from examples.desktop.inputs import Inputs
from examples.desktop.screen import Frame

__all__ = ["BASE", "Painter", "build_model", "build_scheduler", "load_base", "paint_next", "sample_next"]

BASE = Path(__file__).parent / "base"
HALF = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
"""Whether bfloat16 is worth it on this processor; frames are snapped to a palette, so they stay alike."""


Painter: TypeAlias = Any
"""What samples can be drawn from: a `UNet2DModel`, or anything that answers as it does (diffusers hides its types)."""


def build_scheduler() -> Any:  # diffusers is untyped
    """The noise of training and sampling.

    Ten steps whose noise rises fast and ends at nothing but noise (zero terminal SNR, Lin et al. 2024): most of
    training is then spent where a sample with one step starts, on telling the next frame from the condition alone.
    """
    return DDIMScheduler(
        num_train_timesteps=10,
        beta_start=0.3,
        beta_end=0.7,
        clip_sample=True,
        prediction_type="sample",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def build_model() -> torch.nn.Module:
    """The model, untrained."""
    model: torch.nn.Module = UNet2DModel(
        sample_size=codec.GRID,
        in_channels=codec.SAMPLE_CHANNELS + codec.CONDITION_CHANNELS,
        out_channels=codec.SAMPLE_CHANNELS,
        block_out_channels=(48, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        norm_num_groups=8,
    )
    return model


def load_base(folder: Path = BASE) -> torch.nn.Module:
    """The base model that the demo starts from, in float32."""
    model: torch.nn.Module = UNet2DModel.from_pretrained(folder, torch_dtype=torch.float32)
    return model.eval()


@torch.inference_mode()
def paint_next(
    model: Painter,
    prev: NDArray[np.uint8],
    inputs: Sequence[Inputs],
    generator: torch.Generator | None = None,
    *,
    steps: int = 1,
) -> NDArray[np.uint8]:
    """The frames after `prev` [B, 24, 32, 3] under one `Inputs` each, drawn in `steps` denoising steps (1 to 4 do)."""
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    condition = codec.condition(prev, inputs)
    sample = torch.randn((len(prev), codec.SAMPLE_CHANNELS, *codec.GRID), generator=generator)
    for timestep in scheduler.timesteps:
        with torch.autocast("cpu", torch.bfloat16, enabled=HALF):
            clean = model(torch.cat([sample, condition], dim=1), timestep).sample.float()
        sample = scheduler.step(clean, timestep, sample).prev_sample
    return codec.to_frames(prev, sample)


def sample_next(
    model: Painter, prev: Frame, inputs: Inputs, generator: torch.Generator | None = None, *, steps: int = 1
) -> Frame:
    """The one frame after `prev` [24, 32, 3]."""
    frame: Frame = paint_next(model, prev[None], [inputs], generator, steps=steps)[0]
    return frame
