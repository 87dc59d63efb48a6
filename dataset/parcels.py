"""Samples on their way between processes: pickled once, with the bytes of tensors and arrays beside the pickle.

torch's own way of sending tensors makes a shared file for each, which ends with the process that made it; here they
are bytes like any other. Only processes that this one started are read from.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Sequence
from typing import Any

import torch

_COUNTS = struct.Struct("<QQ")  # bytes of the pickle, number of buffers
_ALIGNED = 64


def packed(thing: Any) -> list[bytes | memoryview]:
    """What is to be sent, in pieces."""
    buffers: list[pickle.PickleBuffer] = []
    body = io.BytesIO()
    _Pickler(body, protocol=5, buffer_callback=buffers.append).dump(thing)
    raw = [memoryview(buffer.raw()) for buffer in buffers]
    head = _COUNTS.pack(body.tell(), len(raw)) + struct.pack(f"<{len(raw)}Q", *[each.nbytes for each in raw])
    pieces: list[bytes | memoryview] = [head, body.getbuffer()]
    at = len(head) + body.tell()
    for each in raw:
        pieces += [bytes(-at % _ALIGNED), each]
        at += -at % _ALIGNED + each.nbytes
    return pieces


def unpacked(data: bytearray) -> Any:
    """What was sent; its tensors lie in `data`."""
    view = memoryview(data)
    size, count = _COUNTS.unpack_from(view)
    lengths = struct.unpack_from(f"<{count}Q", view, _COUNTS.size)
    begin = _COUNTS.size + 8 * count
    at = begin + size
    buffers = []
    for length in lengths:
        at += -at % _ALIGNED
        buffers.append(view[at : at + length])
        at += length
    return pickle.loads(view[begin : begin + size], buffers=buffers)


def size_of(pieces: Sequence[bytes | memoryview]) -> int:
    """Bytes of all pieces."""
    return sum(memoryview(piece).nbytes for piece in pieces)


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        plain = type(thing) is torch.Tensor and thing.device.type == "cpu" and thing.layout is torch.strided
        if not plain or thing.requires_grad or thing.is_quantized:
            return NotImplemented
        if not thing.numel():
            return _empty, (thing.dtype, tuple(thing.shape))
        raw = thing.contiguous().reshape(-1).view(torch.uint8).numpy()
        return _tensor, (pickle.PickleBuffer(raw), thing.dtype, tuple(thing.shape))


def _tensor(buffer: memoryview, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.frombuffer(buffer, dtype=dtype).reshape(shape)


def _empty(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype)
