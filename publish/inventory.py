"""Every tensor of a version with its digest, so that one can be checked wherever it lies, on a device too."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from publish.crew import in_order
from publish.errors import Unreadable
from publish.manifest import Tensor
from publish.tensors import opened

Ways = Mapping[str, Mapping[str, str]]
"""By file and tensor: how the delta beside the version tells it."""


def inventory(files: Mapping[str, Path]) -> Mapping[str, Mapping[str, Tensor]]:
    """The tensors of the safetensors files, by file and name. A file that no reader without torch understands is left
    out; its own digest stands for all of it."""
    found: dict[str, Mapping[str, Tensor]] = {}
    for name, path in sorted(files.items()):
        if not name.endswith(".safetensors"):
            continue
        try:
            with opened(path) as (layout, data):
                digests = in_order(
                    lambda piece, data=data: hashlib.sha256(data[piece.begin : piece.end].data).hexdigest(),  # type: ignore[misc]
                    layout.pieces,
                )
                found[name] = {
                    piece.name: Tensor(piece.kind, piece.shape, digest)
                    for piece, digest in zip(layout.pieces, digests, strict=True)
                }
        except Unreadable:
            continue
    return found


def told(tensors: Mapping[str, Mapping[str, Tensor]], ways: Ways) -> Mapping[str, Mapping[str, Tensor]]:
    """The same, with how each is told to whoever has the version before."""
    return {
        file: {
            name: Tensor(tensor.dtype, tensor.shape, tensor.sha256, ways.get(file, {}).get(name, tensor.encoding))
            for name, tensor in named.items()
        }
        for file, named in tensors.items()
    }
