"""Whether two elements are the same: a digest of what is in them, the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

_PLAIN = (str, int, float, bool, complex, type(None))


def digest(element: Any) -> str:
    """16 hexadecimal digits. Things of unknown kinds count by their type only."""
    hashed = hashlib.blake2b(digest_size=8)
    _add(hashed, element)
    return hashed.hexdigest()


def _add(hashed: Any, thing: Any) -> None:
    kind = type(thing)
    hashed.update(kind.__name__.encode() + b"(")
    if isinstance(thing, _PLAIN):
        hashed.update(repr(thing).encode())
    elif isinstance(thing, (bytes, bytearray, memoryview)):
        hashed.update(thing)
    elif isinstance(thing, Mapping):
        for name, value in thing.items():
            _add(hashed, name)
            _add(hashed, value)
    elif isinstance(thing, (list, tuple)):
        for value in thing:
            _add(hashed, value)
    elif isinstance(thing, torch.Tensor):
        hashed.update(f"{thing.dtype}{tuple(thing.shape)}".encode())
        if thing.device.type == "cpu" and thing.layout is torch.strided and not thing.is_quantized:
            hashed.update(thing.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(thing, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(thing)
        hashed.update(f"{array.dtype}{array.shape}".encode())
        if not array.dtype.hasobject:
            hashed.update(array.tobytes())
    elif hasattr(thing, "tobytes"):  # an image
        hashed.update(thing.tobytes())
    hashed.update(b")")
