"""A server that follows the service's weights, and distrusts it: every load and answer is checked by itself."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from diffusers import UNet2DModel
from numpy.typing import NDArray
from safetensors.numpy import load_file

from publish import DirectoryHub, Follower, LiveModel
from publish.loading import Pretrained

PAUSE = 0.02
"""Seconds between two requests."""


@dataclass(frozen=True)
class Load:
    """A folder that was given to the loader, and what is wrong with it ("": nothing)."""

    version: int | None
    digest: str
    fault: str


class Recording:
    """A loader that looks at what it is given before it loads it."""

    def __init__(self, base: Path, public_key: str) -> None:
        self._base, self._key = base, public_key
        self._inner = Pretrained(UNet2DModel)
        self.loads: list[Load] = []
        self.weights: dict[str, str] = {}

    def load(self, folder: Path, spare: UNet2DModel | None) -> UNet2DModel:
        """Examine, then load."""
        load = examine(folder, self._key) if folder != self._base else Load(None, "base", "")
        self.loads.append(load)
        self.weights[load.digest] = weights_in(folder)
        return self._inner.load(folder, spare)


class Server:
    """A model that is served while it is followed, and someone who asks it all the time. `tears` are answers in which
    the weights were not those of the version that answered."""

    def __init__(self, hub: Path, channel: str, public_key: str, cache: Path, base: Path) -> None:
        self.loader = Recording(base, public_key)
        self.live: LiveModel[UNet2DModel] = LiveModel(self.loader, base)
        self.follower = Follower(DirectoryHub(hub), channel, (public_key,), cache, self.live, longest_wait=0.5)
        self.tears: list[str] = []
        self.answers = 0
        self.served: list[str] = []
        self._stop = threading.Event()
        self._asking = threading.Thread(target=self._ask, name="asking")

    def __enter__(self) -> Server:
        self.follower.start()
        self._asking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._asking.join()
        self.follower.close()

    @property
    def version(self) -> int:
        """The number that is served; 0 for the base."""
        current = self.live.current
        return (current.version if current else 0) or 0

    def _ask(self) -> None:
        while not self._stop.wait(PAUSE):
            with self.live.use() as served:
                before = weights_of(served.module)
                time.sleep(PAUSE)
                after = weights_of(served.module)
            if not before == after == self.loader.weights[served.digest]:
                self.tears.append(served.label)
            self.answers += 1
            if self.served[-1:] != [served.label]:
                self.served.append(served.label)

    # What must be true of it

    def loaded_only_what_verifies(self) -> None:
        """Every folder that was loaded was whole and signed; checked here by other code than the follower's."""
        bad = next((load for load in self.loader.loads if load.fault), None)
        assert bad is None, f"version {bad.version if bad else ''} was loaded: {bad.fault if bad else ''}"

    def never_tore(self) -> None:
        """No answer came from weights of two versions, or of another than it said."""
        assert not self.tears, f"an answer of version {self.tears[0]} came from other weights"

    def only_went_forward(self) -> None:
        """Nobody rolled back, so the numbers that were served only grew."""
        numbers = [0 if label == "base" else int(label) for label in self.served]
        fall = next((pair for pair in pairwise(numbers) if pair[1] <= pair[0]), None)
        assert fall is None, f"version {fall[1] if fall else 0:06d} was served after {fall[0] if fall else 0:06d}"


def examine(folder: Path, public_key: str) -> Load:
    """Check a version's folder against the publisher's key, with no code of the room that made it."""
    stored = (folder / "manifest.json").read_bytes()
    manifest: Mapping[str, Any] = json.loads(stored)
    unsigned = re.sub(rb'"signature":"[0-9a-f]*",?', b"", stored)
    digest = hashlib.sha256(stored).hexdigest()
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key.removeprefix("ed25519:")))
    fault = ""
    try:
        key.verify(bytes.fromhex(manifest["signature"]), unsigned)
    except InvalidSignature:
        fault = "its signature is not the publisher's"
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"manifest.json"}
    if present != manifest["files"].keys():
        fault = f"it holds {sorted(present)}, signed were {sorted(manifest['files'])}"
    for name, expected in manifest["files"].items():
        content = (folder / name).read_bytes() if name in present else b""
        if (len(content), hashlib.sha256(content).hexdigest()) != (expected["size"], expected["sha256"]):
            fault = f"{name} is not what was signed"
    return Load(manifest["version"], digest, fault)


def weights_in(folder: Path) -> str:
    """A fingerprint of the weights on disk."""
    arrays: dict[str, NDArray[Any]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        arrays.update(load_file(path))
    return _fingerprint(arrays)


def weights_of(module: UNet2DModel) -> str:
    """A fingerprint of the weights in memory."""
    return _fingerprint({name: tensor.numpy() for name, tensor in module.state_dict().items()})


def _fingerprint(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
