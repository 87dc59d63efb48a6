"""Frames and inputs to the bytes of a sample's members, and those to the tensors that the objective takes.

A training sample is one transition: `prev.png`, `next.png` and `json` ({"inputs": …}). Its tensors, in patches of
4 x 4 pixels (a picture of 64 x 48 is 12 x 16 of them; the model stays small so):

- `sample` [48, 12, 16]: half the difference of next and prev, both in [-1, 1], so that what stays is zero;
- `condition` [CONDITION_CHANNELS, 12, 16]: the frame before, where the pointer goes, which clicks and Escape came with
  it, and each patch's own place;
- `weight` [48, 12, 16]: how much each element counts in the loss: more where the picture changes.

Decoding snaps to the palette, so that the small errors of one frame do not add up over the next ones.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from examples.desktop.errors import DesktopError, InvalidFrame, InvalidSample
from examples.desktop.inputs import Inputs
from examples.desktop.screen import HEIGHT, PALETTE, WIDTH, Frame, to_rgb

__all__ = [
    "CONDITION_CHANNELS",
    "GRID",
    "PATCH",
    "SAMPLE_CHANNELS",
    "condition",
    "decode_frame",
    "encode",
    "encode_frame",
    "snap",
    "to_frames",
    "to_tensors",
]

PATCH = 4
GRID = (HEIGHT // PATCH, WIDTH // PATCH)
SAMPLE_CHANNELS = 3 * PATCH * PATCH
CONDITION_CHANNELS = SAMPLE_CHANNELS + PATCH * PATCH + 7
CHANGED_WEIGHT = 20.0  # a changed pixel's, beside 1 for one that stays

_PALETTE = PALETTE.astype(np.float32) / 127.5 - 1.0
_CODE_WEIGHTS = np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
_CODES = PALETTE.astype(np.int32) @ _CODE_WEIGHTS
_CODE_ORDER = np.argsort(_CODES)
_PLACES = np.stack(np.meshgrid(np.linspace(-1, 1, GRID[0]), np.linspace(-1, 1, GRID[1]), indexing="ij")).astype(
    np.float32
)

Floats = NDArray[np.float32]


def encode_frame(frame: Frame) -> bytes:
    """A frame as a PNG file (indexed colours when all are the palette's, as all true frames' are)."""
    indices = _indices(frame)
    if indices is None:
        image = Image.fromarray(_checked(frame))
    else:
        image = Image.frombytes("P", (WIDTH, HEIGHT), indices.tobytes())
        image.putpalette(PALETTE.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=6)
    return file.getvalue()


def decode_frame(png: bytes) -> Frame:
    """The frame in a PNG file; raises InvalidFrame if it is none, or of another size."""
    try:
        image = Image.open(io.BytesIO(png), formats=("PNG",))
        if image.size != (WIDTH, HEIGHT):
            raise InvalidFrame(f"frame: {image.size[0]} x {image.size[1]} pixels, but it is {WIDTH} x {HEIGHT}")
        if image.mode == "P" and image.getpalette() == _PILLOW_PALETTE:
            return to_rgb(np.asarray(image))
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, IndexError) as error:
        raise InvalidFrame(f"frame: {png[:16]!r}… is not a PNG file: {error}") from error


_PILLOW_PALETTE = PALETTE.flatten().tolist()


def encode(prev: Frame, inputs: Inputs, after: Frame) -> dict[str, bytes]:
    """A transition as the members of a sample (without its key); fields may be added to its JSON."""
    return {
        "prev.png": encode_frame(prev),
        "next.png": encode_frame(after),
        "json": json.dumps({"inputs": inputs.wire()}, separators=(",", ":")).encode(),
    }


def to_tensors(members: Mapping[str, bytes]) -> dict[str, Tensor]:
    """One sample's `sample`, `condition` and `weight`, float32, without a batch dimension.

    Raises InvalidSample on a missing or unreadable member.
    """
    try:
        prev, after = decode_frame(members["prev.png"]), decode_frame(members["next.png"])
        inputs = Inputs.parse(json.loads(members["json"])["inputs"])
    except KeyError as error:
        raise InvalidSample(
            f"sample: no {error.args[0]!r}, but it has prev.png, next.png and json with inputs"
        ) from error
    except (DesktopError, ValueError, TypeError) as error:
        raise InvalidSample(f"sample: {error}") from error
    return tensors(prev, inputs, after)


def tensors(prev: Frame, inputs: Inputs, after: Frame) -> dict[str, Tensor]:
    """As `to_tensors`, from a transition in memory."""
    before, change = _patches(prev), _patches(after.astype(np.int16) - prev)
    changed = (change.reshape(PATCH * PATCH, 3, *GRID) != 0).any(axis=1, keepdims=True)
    weight = np.broadcast_to(1.0 + CHANGED_WEIGHT * changed.astype(np.float32), (PATCH * PATCH, 3, *GRID))
    return {
        "sample": torch.from_numpy(change.astype(np.float32) / 255.0),
        "condition": torch.from_numpy(_condition(before, inputs)),
        "weight": torch.from_numpy(weight.reshape(SAMPLE_CHANNELS, *GRID).copy()),
    }


def condition(prev: NDArray[np.uint8], inputs: Sequence[Inputs]) -> Tensor:
    """The condition of a batch: frames [B, 48, 64, 3] and as many inputs to [B, CONDITION_CHANNELS, 12, 16]."""
    return torch.from_numpy(np.stack([_condition(_patches(f), i) for f, i in zip(prev, inputs, strict=True)]))


def to_frames(prev: NDArray[np.uint8], sample: Tensor) -> NDArray[np.uint8]:
    """The frames [B, 48, 64, 3] that painted samples [B, 48, 12, 16] make of those before, in the palette's colours."""
    change = sample.detach().float().cpu().numpy().reshape(-1, PATCH, PATCH, 3, *GRID)
    change = change.transpose(0, 4, 1, 5, 2, 3).reshape(-1, HEIGHT, WIDTH, 3)
    return snap(prev + change * 255.0)


def snap(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Each pixel [..., 3] (0 to 255, any number type) to the palette's nearest colour."""
    colours = PALETTE.astype(np.float32)
    distance = (colours**2).sum(axis=1) - 2.0 * pixels.astype(np.float32) @ colours.T
    return to_rgb(distance.argmin(axis=-1))


def _patches(frame: NDArray[Any]) -> NDArray[Any]:
    """[48, 64, 3] to [48, 12, 16]: a patch's pixels become channels."""
    parts = frame.reshape(GRID[0], PATCH, GRID[1], PATCH, 3).transpose(1, 3, 4, 0, 2)
    return parts.reshape(SAMPLE_CHANNELS, *GRID)


def _condition(before: NDArray[np.uint8], inputs: Inputs) -> Floats:
    planes = np.zeros((CONDITION_CHANNELS, *GRID), dtype=np.float32)
    planes[:SAMPLE_CHANNELS] = before
    planes[:SAMPLE_CHANNELS] *= 1 / 127.5
    planes[:SAMPLE_CHANNELS] -= 1.0
    row, column = inputs.y // PATCH, inputs.x // PATCH
    planes[SAMPLE_CHANNELS + PATCH * (inputs.y % PATCH) + inputs.x % PATCH, row, column] = 1.0
    planes[-7:-5] = _PLACES
    if inputs.left or inputs.right:
        planes[-5 if inputs.left else -4] = 1.0
        planes[-2], planes[-1] = 2.0 * inputs.y / HEIGHT - 1.0, 2.0 * inputs.x / WIDTH - 1.0
    if inputs.escape:
        planes[-3] = 1.0
    return planes


def _checked(frame: NDArray[Any]) -> Frame:
    if frame.shape != (HEIGHT, WIDTH, 3) or frame.dtype != np.uint8:
        raise InvalidFrame(f"frame: {frame.dtype} {frame.shape}, but it is uint8 {(HEIGHT, WIDTH, 3)}")
    return frame


def _indices(frame: NDArray[Any]) -> NDArray[np.uint8] | None:
    """The frame in palette indices, or None if it has other colours."""
    codes = _checked(frame).astype(np.int32) @ _CODE_WEIGHTS
    places = np.searchsorted(_CODES, codes, sorter=_CODE_ORDER)
    indices = _CODE_ORDER[np.minimum(places, len(_CODES) - 1)]
    return indices.astype(np.uint8) if np.array_equal(_CODES[indices], codes) else None
