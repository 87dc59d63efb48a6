"""What publishing costs: bytes from one version to the next, and seconds from commit to served.

    python -m benchmarks.publish [--model small|unet] [--rounds N] [--dtype bfloat16|float32] [--json]

A diffusers UNet, randomly initialised (`unet`: about 100 M numbers, `small`: about 6 M), is finetuned on noise with AdamW at
1e-5; its EMA (0.9999) is published every 10 and every 100 steps through the embedded hub, and followed over HTTP. Beside
each delta stand the best general encoders on the same files: zstd, and zstd with the version before as its
dictionary, which is what `zstd --patch-from` and xdelta do. The time is held against `upload_folder`,
`snapshot_download` and `from_pretrained` of the same weights over the same hub, in the same run.

Bytes are those of bodies over the follower's socket, manifests and pointers included; the publisher writes to the hub's
directory, so that its hop has no socket.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import zstandard

from auth import Scope, TokenStore
from benchmarks.result import Result, Target
from publish import (
    Base,
    DirectoryHub,
    Follower,
    HttpHub,
    HubSettings,
    LiveModel,
    Outbox,
    Publisher,
    SigningKey,
    Ticket,
    decode_manifest,
    put,
)
from publish.loading import Pretrained
from publish.server import HubThread

TARGETS = (
    Target("every_10_share", "<=", 0.06),
    Target("every_100_share", "<=", 0.16),
    Target("every_10_of_best_general", "<=", 1.0),
    Target("every_100_of_best_general", "<=", 1.0),
    Target("commit_to_served_of_hub_client", "<=", 0.5),
    Target("commit_to_served_p95_seconds", "<=", 2.0),
)
SIZES = {"small": (32, 64, 128), "unet": (160, 320, 640)}
DECAY, RATE, FRAME = 0.9999, 1e-5, 16


class Training:
    """Noise-dominated finetuning of an epsilon model, with its EMA beside it in full precision."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        from diffusers import UNet2DModel

        torch.manual_seed(0)
        self.model: Any = UNet2DModel(
            sample_size=FRAME,
            block_out_channels=channels,
            layers_per_block=2,
            down_block_types=("DownBlock2D",) * len(channels),
            up_block_types=("UpBlock2D",) * len(channels),
        )
        self.average: Any = UNet2DModel.from_config(self.model.config)
        self.average.load_state_dict(self.model.state_dict())
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE)
        self.steps = 0

    @property
    def numbers(self) -> int:
        """How many the model has."""
        return sum(tensor.numel() for tensor in self.model.parameters())

    def rounded(self, dtype: torch.dtype) -> Any:
        """The average as it is published; the one that training keeps stays in full precision."""
        return copy.deepcopy(self.average).to(dtype)

    def step(self) -> None:
        """One step, and the EMA's."""
        frames, noise = torch.randn(2, 3, FRAME, FRAME), torch.randn(2, 3, FRAME, FRAME)
        loss = torch.nn.functional.mse_loss(self.model(frames + noise, 500).sample, noise)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._optimizer.zero_grad()
        with torch.no_grad():
            for mean, raw in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(raw, 1 - DECAY)
        self.steps += 1


class Kitchen:
    """A publisher, its hub behind HTTP, and a follower."""

    def __init__(self, root: Path) -> None:
        from diffusers import UNet2DModel

        self.root = root
        key = SigningKey.load_or_create(root / "publisher.key")
        self.hub = DirectoryHub(root / "hub", create=True)
        self.outbox = Outbox(root / "outbox")
        self.publisher = Publisher(self.hub, self.outbox, key, keep=3)
        tokens = TokenStore(root / "tokens.json")
        self.token = tokens.mint("bench", [Scope.OPERATE])
        self.server = HubThread(
            HubSettings(port=0, repositories=root / "repositories"), self.hub, "stovetop/bench", tokens
        )
        self.http = HttpHub(self.server.url, self.token)
        self.live: LiveModel[Any] = LiveModel(Pretrained(UNet2DModel))
        self.follower = Follower(self.http, "stable", [key.public], root / "cache", self.live)

    @contextmanager
    def open(self) -> Iterator[None]:
        """While everything runs; the follower in its own thread."""
        with self.server, self.outbox.served():
            self.follower.start()
            yield
            self.follower.close()
            self.http.close()

    def publish(self, training: Training, dtype: torch.dtype) -> tuple[float, int]:
        """Hand over, publish, wait until it is served: seconds from the commit's beginning, and the version."""
        ticket = Ticket("bench", "main", "seg1", training.steps, ema=True)
        put(self.root / "outbox", training.rounded(dtype).save_pretrained, ticket)
        began = time.perf_counter()
        assert self.publisher.step() == 0.0
        version = self.hub.versions()[-1]
        while self.follower.status().version != version:
            assert time.perf_counter() - began < 300, self.follower.status()
            time.sleep(0.001)
        return time.perf_counter() - began, version


def general(new: Path, old: Path) -> float:
    """The smaller of two general encodings of a file, in bytes."""
    data, before = new.read_bytes(), old.read_bytes()
    alone = len(zstandard.ZstdCompressor(level=9).compress(data))
    window = max(10, (len(data) + len(before)).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(6, window_log=min(window, 31), enable_ldm=True)
    patch = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT),
        compression_params=parameters,
    ).compress(data)
    return min(alone, len(patch))


def through_the_client(kitchen: Kitchen, folder: Path, rounds: int) -> float:
    """Seconds of `upload_folder`, `snapshot_download` and `from_pretrained`, the median."""
    from diffusers import UNet2DModel
    from huggingface_hub import HfApi, snapshot_download

    api = HfApi(endpoint=kitchen.server.url, token=kitchen.token)
    api.create_repo("bench/net")
    seconds = []
    for number in range(rounds):
        (folder / "round.txt").write_text(str(number))  # else nothing would be uploaded again
        cache = kitchen.root / f"hf{number}"
        began = time.perf_counter()
        if number:
            api.delete_files("bench/net", ["*.safetensors"])
            began = time.perf_counter()
        api.upload_folder(repo_id="bench/net", folder_path=folder)
        down = snapshot_download("bench/net", endpoint=kitchen.server.url, token=kitchen.token, cache_dir=cache)
        UNet2DModel.from_pretrained(down)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measure(result: Result, model: str, dtype: torch.dtype, rounds: int) -> None:
    """Fill the result."""
    training = Training(SIZES[model])
    result.note(numbers=training.numbers)
    with tempfile.TemporaryDirectory() as place:
        kitchen = Kitchen(Path(place))
        with kitchen.open():
            for _ in range(30):  # AdamW's first steps are of full size, whatever the gradient
                training.step()
            kitchen.publish(training, dtype)
            waits: list[float] = []
            for every in (10, 100):
                shares, ratios, first_step = [], [], time.perf_counter()
                for _ in range(rounds if every == 10 else max(1, rounds // 5)):
                    for _ in range(every):
                        training.step()
                    before = kitchen.follower.status().received_bytes
                    seconds, version = kitchen.publish(training, dtype)
                    waits.append(seconds)
                    stored = kitchen.hub.manifest(version)
                    manifest = decode_manifest(stored, "")
                    told = manifest.base
                    over = kitchen.follower.status().received_bytes - before + len(stored)
                    assert isinstance(told, Base), "no delta was worth it"
                    shares.append(over / manifest.size)
                    name = next(name for name in manifest.files if name.endswith(".safetensors"))
                    ratios.append(over / general(kitchen.hub.path(version, name), kitchen.hub.path(version - 1, name)))
                result.note(
                    **{
                        f"every_{every}_share": statistics.mean(shares),
                        f"every_{every}_of_best_general": statistics.mean(ratios),
                        f"every_{every}_seconds": time.perf_counter() - first_step,
                    }
                )
            folder = kitchen.root / "folder"
            training.rounded(dtype).save_pretrained(folder)
            client = through_the_client(kitchen, folder, 3)
            waits.sort()
            result.note(
                steps=training.steps,
                commit_to_served_seconds=statistics.median(waits),
                commit_to_served_p95_seconds=waits[min(len(waits) - 1, int(0.95 * len(waits)))],
                hub_client_seconds=client,
                commit_to_served_of_hub_client=statistics.median(waits) / client,
            )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=10, help="versions every 10 steps; a fifth as many every 100")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of what is published")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    result = Result(f"publish, {given.model} in {given.dtype}", TARGETS)
    measure(result, given.model, getattr(torch, given.dtype), given.rounds)
    result.show(as_json=given.json)


if __name__ == "__main__":
    main()
