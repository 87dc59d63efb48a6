"""Frames and inputs to the bytes of a sample's members, and those to the tensors that the objective takes.

A training sample is one transition: `prev.png`, `next.png` and `json` ({"inputs": …}). Its tensors, in patches of
2 x 2 pixels (a picture of 32 x 24 is 12 x 16 of them):

- `sample` [44, 12, 16]: what changes, a plane for each pixel of a patch and colour of the palette: 1 where that colour
  comes to a pixel that had another, else 0, so that all is 0 where nothing changes. (Colours as planes, not as mixtures
  of red, green and blue: halfway between two colours would lie a third one.)
- `condition` [CONDITION_CHANNELS, 12, 16]: the frame before (a plane for each colour), the pointer's shape where it
  goes, the places of the patches, and, the same everywhere, which clicks and Escape came and where was clicked;
- `weight` [44, 12, 16]: how much each element counts in the loss: more where the picture changes;
- `loss_weight` []: how much the sample counts: more where something was pressed, which is rare and decides what comes.

Decoding takes a pixel's strongest new colour if it is stronger than STAYS, so that small errors of one frame do not add
up over the next ones.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from examples.desktop.errors import DesktopError, InvalidFrame, InvalidSample
from examples.desktop.inputs import Inputs
from examples.desktop.screen import HEIGHT, PALETTE, WIDTH, Frame, pointer_shape, to_rgb

__all__ = [
    "CONDITION_CHANNELS",
    "GRID",
    "PATCH",
    "PIXELS",
    "SAMPLE_CHANNELS",
    "condition",
    "decode_frame",
    "encode",
    "encode_frame",
    "to_frames",
    "to_tensors",
]

PATCH = 2
GRID = (HEIGHT // PATCH, WIDTH // PATCH)
PIXELS = PATCH * PATCH  # of a patch
SAMPLE_CHANNELS = PIXELS * len(PALETTE)

_CELL = 4  # pixels; how finely the place of a click is told everywhere
_WAVES = (0.5, 1.0, 2.0, 4.0)  # periods across the screen, by which a patch knows its place
_COLOURS = slice(0, PIXELS * len(PALETTE))
_POINTER = slice(_COLOURS.stop, _COLOURS.stop + 2 * PIXELS)
_PLACES = slice(_POINTER.stop, _POINTER.stop + 4 * len(_WAVES))
_ROWS = slice(_PLACES.stop, _PLACES.stop + GRID[0])  # and one plane for each row and column of patches, so that what
_COLUMNS = slice(_ROWS.stop, _ROWS.stop + GRID[1])  # lies beneath a pointer or menu is known by its place
_LEFT, _RIGHT, _ESCAPE, _CLICK_Y, _CLICK_X = range(_COLUMNS.stop, _COLUMNS.stop + 5)
_CLICK_ROW = _COLUMNS.stop + 5
_CLICK_COLUMN = _CLICK_ROW + HEIGHT // _CELL
CONDITION_CHANNELS = _CLICK_COLUMN + WIDTH // _CELL

PRESSED_WEIGHT = 3.0  # of a sample with a click or Escape, beside 1 for the others
CHANGED_WEIGHT = 11.0  # of a pixel that changes, beside 1 for one that stays

STAYS = 0.5  # how strong a new colour has to be for a pixel to change

_CODE_WEIGHTS = np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
_CODES = PALETTE.astype(np.int32) @ _CODE_WEIGHTS
_CODE_ORDER = np.argsort(_CODES)
_ONE_HOT = np.eye(len(PALETTE), dtype=np.float32)

Floats = NDArray[np.float32]
Indices = NDArray[np.uint8]


def encode_frame(frame: Frame) -> bytes:
    """A frame as a PNG file (indexed colours when all are the palette's, as all true frames' are)."""
    indices = _exact(_checked(frame))
    if indices is None:
        image = Image.fromarray(frame)
    else:
        image = Image.frombytes("P", (WIDTH, HEIGHT), indices.tobytes())
        image.putpalette(PALETTE.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=6)
    return file.getvalue()


def decode_frame(png: bytes) -> Frame:
    """The frame in a PNG file; raises InvalidFrame if it is none, or of another size."""
    image = _open(png)
    return to_rgb(np.asarray(image)) if _is_indexed(image) else np.asarray(image.convert("RGB"))


def _open(png: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(png), formats=("PNG",))
        if image.size != (WIDTH, HEIGHT):
            raise InvalidFrame(f"frame: {image.size[0]} x {image.size[1]} pixels, but it is {WIDTH} x {HEIGHT}")
        image.load()
    except (OSError, SyntaxError, IndexError) as error:
        raise InvalidFrame(f"frame: {png[:16]!r}… is not a PNG file: {error}") from error
    return image


def _is_indexed(image: Image.Image) -> bool:
    """Whether its pixels already are indices of our palette."""
    return image.mode == "P" and image.getpalette() == _PILLOW_PALETTE


_PILLOW_PALETTE = PALETTE.flatten().tolist()


def encode(prev: Frame, inputs: Inputs, after: Frame) -> dict[str, bytes]:
    """A transition as the members of a sample (without its key); fields may be added to its JSON."""
    return {
        "prev.png": encode_frame(prev),
        "next.png": encode_frame(after),
        "json": json.dumps({"inputs": inputs.wire()}, separators=(",", ":")).encode(),
    }


def to_tensors(members: Mapping[str, bytes]) -> dict[str, Tensor]:
    """One sample's `sample`, `condition`, `weight` and `loss_weight`, float32, without a batch dimension.

    Raises InvalidSample on a missing or unreadable member.
    """
    try:
        prev, after = _decode_indices(members["prev.png"]), _decode_indices(members["next.png"])
        inputs = Inputs.parse(json.loads(members["json"])["inputs"])
    except KeyError as error:
        raise InvalidSample(
            f"sample: no {error.args[0]!r}, but it has prev.png, next.png and json with inputs"
        ) from error
    except (DesktopError, ValueError, TypeError) as error:
        raise InvalidSample(f"sample: {error}") from error
    return _tensors(prev, inputs, after)


def tensors(prev: Frame, inputs: Inputs, after: Frame) -> dict[str, Tensor]:
    """As `to_tensors`, from a transition in memory."""
    return _tensors(_indices(prev), inputs, _indices(after))


def _tensors(prev: Indices, inputs: Inputs, after: Indices) -> dict[str, Tensor]:
    before, then = _split(prev), _split(after)
    changed = (before != then)[:, None]
    weight = np.where(changed, np.float32(CHANGED_WEIGHT), np.float32(1.0)).repeat(len(PALETTE), axis=1)
    change = _one_hot(then) * changed
    return {
        "sample": torch.from_numpy(change.reshape(SAMPLE_CHANNELS, *GRID)),
        "condition": torch.from_numpy(_condition(before, inputs)),
        "weight": torch.from_numpy(weight.reshape(SAMPLE_CHANNELS, *GRID)),
        "loss_weight": torch.tensor(PRESSED_WEIGHT if inputs.pressed else 1.0),
    }


def condition(prev: NDArray[np.uint8], inputs: Sequence[Inputs]) -> Tensor:
    """The condition of a batch: frames [B, 24, 32, 3] and as many inputs to [B, CONDITION_CHANNELS, 12, 16]."""
    return torch.from_numpy(np.stack([_condition(_split(_indices(f)), i) for f, i in zip(prev, inputs, strict=True)]))


def to_frames(prev: NDArray[np.uint8], sample: Tensor) -> NDArray[np.uint8]:
    """The frames [B, 24, 32, 3] that painted samples [B, 44, 12, 16] make of those before, in the palette's colours."""
    change = sample.detach().float().cpu().numpy().reshape(len(sample), PIXELS, len(PALETTE), *GRID)
    before = np.stack([_split(_indices(frame)) for frame in prev])
    after = np.where(change.max(axis=2) > STAYS, change.argmax(axis=2), before)
    patches = after.reshape(-1, PATCH, PATCH, *GRID).transpose(0, 3, 1, 4, 2)
    return to_rgb(patches.reshape(-1, HEIGHT, WIDTH))


def _split(pixels: NDArray[Any]) -> NDArray[Any]:
    """[24, 32] to [4, 12, 16]: the first of all patches' pixels, the second of them, and so on."""
    parts = pixels.reshape(GRID[0], PATCH, GRID[1], PATCH).transpose(1, 3, 0, 2)
    return parts.reshape(PIXELS, *GRID)


def _one_hot(patches: NDArray[Any]) -> Floats:
    """Colours [..., 4, 12, 16] to planes of zeros and ones, [..., 4, 11, 12, 16]."""
    return np.moveaxis(_ONE_HOT.take(patches, axis=0), -1, -3)


def _condition(before: Indices, inputs: Inputs) -> Floats:
    planes = _STILL.copy()
    planes[_COLOURS] = _one_hot(before).reshape(SAMPLE_CHANNELS, *GRID)
    shape = pointer_shape(inputs.x, inputs.y)
    planes[_POINTER] = np.stack([_split(plane) for plane in shape], axis=1).reshape(-1, *GRID)
    if inputs.left or inputs.right:
        planes[_LEFT if inputs.left else _RIGHT] = 1.0
        planes[_CLICK_Y], planes[_CLICK_X] = 2.0 * inputs.y / HEIGHT - 1.0, 2.0 * inputs.x / WIDTH - 1.0
        planes[_CLICK_ROW + inputs.y // _CELL] = 1.0
        planes[_CLICK_COLUMN + inputs.x // _CELL] = 1.0
    if inputs.escape:
        planes[_ESCAPE] = 1.0
    return planes


def _still() -> Floats:
    """The planes of a condition that never change: the waves of the places."""
    planes = np.zeros((CONDITION_CHANNELS, *GRID), dtype=np.float32)
    y, x = np.meshgrid(np.linspace(0, 1, GRID[0]), np.linspace(0, 1, GRID[1]), indexing="ij")
    angles = [2 * math.pi * wave * axis for wave in _WAVES for axis in (y, x)]
    planes[_PLACES] = [turn(angle) for angle in angles for turn in (np.sin, np.cos)]
    planes[_ROWS] = np.eye(GRID[0])[:, :, None]
    planes[_COLUMNS] = np.eye(GRID[1])[:, None, :]
    return planes


_STILL = _still()


def _checked(frame: NDArray[Any]) -> Frame:
    if frame.shape != (HEIGHT, WIDTH, 3) or frame.dtype != np.uint8:
        raise InvalidFrame(f"frame: {frame.dtype} {frame.shape}, but it is uint8 {(HEIGHT, WIDTH, 3)}")
    return frame


def _nearest(pixels: NDArray[Any]) -> Indices:
    """The indices of the palette's nearest colours."""
    colours = PALETTE.astype(np.float32)
    distances = (colours**2).sum(axis=1) - 2.0 * pixels.astype(np.float32) @ colours.T  # squared, but for a shared term
    indices: Indices = distances.argmin(axis=-1).astype(np.uint8)
    return indices


def _exact(frame: Frame) -> Indices | None:
    """The frame in palette indices, or None if it has other colours."""
    codes = frame.astype(np.int32) @ _CODE_WEIGHTS
    places = np.searchsorted(_CODES, codes, sorter=_CODE_ORDER)
    indices = _CODE_ORDER[np.minimum(places, len(_CODES) - 1)]
    return indices.astype(np.uint8) if np.array_equal(_CODES[indices], codes) else None


def _indices(frame: Frame) -> Indices:
    """The frame in palette indices; colours that are not the palette's are taken for the nearest."""
    exact = _exact(frame)
    return _nearest(frame) if exact is None else exact


def _decode_indices(png: bytes) -> Indices:
    image = _open(png)
    return np.asarray(image) if _is_indexed(image) else _indices(np.asarray(image.convert("RGB")))
