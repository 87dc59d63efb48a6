"""Small networks with torch, for tests that load and serve them."""

from __future__ import annotations

import torch
from diffusers import UNet2DModel


def unet(**options: object) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        **{
            "sample_size": 8,
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
            "layers_per_block": 1,
            **options,
        }
    ).eval()
