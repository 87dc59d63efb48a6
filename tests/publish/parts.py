"""Parts shared by the tests of publish: small weights without torch, and what a careful reader finds in a hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from publish import DirectoryHub, LiveModel, Manifest, PublicKey, Ticket, TrustedKeys, decode_manifest
from publish.durable import digest_of

Weights = dict[str, np.ndarray]


def weights_of(value: float, numbers: int = 64) -> Callable[[Path], None]:
    """A trainer's `write`: every number of the model is `value`, `numbers` of them in each of two files, and a
    configuration."""

    def write(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"size": 64}))
        save_file({"first": np.full(numbers, value, np.float32)}, folder / "model-00001-of-00002.safetensors")
        save_file({"last": np.full((4, numbers // 4), value, np.float32)}, folder / "model-00002-of-00002.safetensors")

    return write


def ticket(step: int, *, run: str = "run", segment: str = "seg1", channel: str = "stable", **more: object) -> Ticket:
    """What the trainer of these tests says."""
    return Ticket(run=run, branch="main", segment=segment, step=step, ema=True, channel=channel, **more)


class Uniform:
    """A loader that needs no torch; a model is whole if all its numbers are one."""

    def load(self, folder: Path, spare: Weights | None) -> Weights:
        return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def value_of(weights: Weights) -> float:
    """The one number of a whole model; fails on a mix."""
    values = {float(number) for array in weights.values() for number in array.ravel()}
    assert len(values) == 1, f"weights of several versions in one model: {sorted(values)}"
    assert sorted(weights) == ["first", "last"]
    return values.pop()


def served_value(live: LiveModel[Weights]) -> float:
    with live.use() as served:
        return value_of(served.module)


def read_version(root: Path, number: int, key: PublicKey) -> tuple[Manifest, float]:
    """Read a version's folder as a stranger who trusts only `key`; fails unless it is whole."""
    folder = root / "versions" / f"{number:06d}"
    manifest = decode_manifest((folder / "manifest.json").read_bytes(), str(folder))
    TrustedKeys([key]).verify(manifest)
    assert manifest.version == number
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {*manifest.files, "manifest.json"}
    for name, digest in manifest.files.items():
        assert digest_of(folder / name) == digest, name
    return manifest, value_of(Uniform().load(folder, None))


def check_hub(root: Path, key: PublicKey) -> None:
    """Fails unless every version is whole and every channel names one, by a signature of `key`."""
    hub = DirectoryHub(root)
    for number in hub.versions():
        read_version(root, number, key)
    for path in (root / "channels").glob("[a-z]*.json"):
        pointer = hub.channel(path.stem)
        assert pointer is not None
        TrustedKeys([key]).verify(pointer)
        stored = (root / "versions" / f"{pointer.version:06d}" / "manifest.json").read_bytes()
        assert hashlib.sha256(stored).hexdigest() == pointer.manifest_sha256


def litter(root: Path) -> list[str]:
    """What a finished writer should not leave below `root`."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.name.endswith(".tmp") or path.parent.name in {"staging", "trash", "tmp", "taken"}
    )
