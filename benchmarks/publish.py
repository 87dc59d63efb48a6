"""What publishing costs: bytes from one version to the next, seconds from commit to served, and training's time.

    python -m benchmarks.publish [--model desktop|small|unet] [--only bytes|times|training] [--json]

A diffusers UNet, randomly initialised (`unet`: about 90 M numbers, `small`: about 6 M) or the demo's packaged model
(`desktop`), is finetuned on noise with AdamW at 1e-5; its EMA (0.9999, kept in full precision) is published every 10 and
every 100 steps in `--dtype` through the embedded hub, and followed over HTTP.

bytes     all that passes the follower's sockets, both ways, headers, pointers and manifests included, against the full
          version. Beside it the best general encoders on the same files: zstd, and zstd with the version before as its
          dictionary, which is what `zstd --patch-from` and xdelta do. The publisher writes to the embedded hub's
          directory, so that its hop has no socket; `hop1` is all that passes the sockets of another one, both ways, which
          publishes to a repository of `stovetop hub`, where any client loads the full version. (Hugging Face's servers and
          S3 get it in full, and the delta beside.)
times     from the publisher's first look at the files to the follower's flip, against `upload_folder`,
          `snapshot_download` and `from_pretrained` of the same weights over the same hub, in turns.
training  seconds a step while a version goes out every 10 steps, against without, in turns; the publisher, the hub and
          the follower are processes of their own, as in a service.
"""

from __future__ import annotations

import argparse
import copy
import logging
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import zstandard

from auth import Scope, TokenStore
from benchmarks.pairs import ratio
from benchmarks.result import Result, Target
from benchmarks.wire import Wire, counted
from publish import (
    Base,
    Courier,
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
from publish.crew import be_nice
from publish.hugging_face import HuggingFaceHub
from publish.loading import Pretrained
from publish.server import HubThread

TARGETS = (
    Target("every_10_share", "<=", 0.06),
    Target("every_100_share", "<=", 0.16),
    Target("every_10_hop1_share", "<=", 0.06),
    Target("every_100_hop1_share", "<=", 0.16),
    Target("every_10_of_best_general", "<=", 1.0),
    Target("every_100_of_best_general", "<=", 1.0),
    Target("commit_to_served_of_hub_client", "<=", 0.5),
    Target("commit_to_served_p95_seconds", "<=", 2.0),
    Target("training_slowed", "<=", 0.03),
)
OF = {target.figure: phase for target, phase in zip(TARGETS, ["bytes"] * 6 + ["times"] * 2 + ["training"], strict=True)}
SIZES: dict[str, tuple[int, ...] | None] = {"desktop": None, "small": (32, 64, 128), "unet": (160, 320, 640)}
DECAY, RATE, FRAME = 0.9999, 1e-5, 16


class Training:
    """Noise-dominated finetuning of an epsilon model, with its EMA beside it in full precision."""

    def __init__(self, channels: tuple[int, ...] | None) -> None:
        from diffusers import UNet2DModel

        torch.manual_seed(0)
        if channels is None:
            from examples.desktop.model import BASE, load_base

            self.model: Any = load_base(BASE).train().requires_grad_(True)
        else:
            self.model = UNet2DModel(
                sample_size=FRAME,
                block_out_channels=channels,
                layers_per_block=2,
                down_block_types=("DownBlock2D",) * len(channels),
                up_block_types=("UpBlock2D",) * len(channels),
            )
        self.average: Any = UNet2DModel.from_config(self.model.config)
        self.average.load_state_dict(self.model.state_dict())
        self._rounded: dict[torch.dtype, Any] = {}
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE)
        self.steps = 0

    @property
    def numbers(self) -> int:
        """How many the model has."""
        return sum(tensor.numel() for tensor in self.model.parameters())

    def rounded(self, dtype: torch.dtype) -> Any:
        """The average as it is published, until it is asked for again; the one that training keeps stays in full
        precision."""
        if dtype not in self._rounded:
            self._rounded[dtype] = copy.deepcopy(self.average).to(dtype)
        with torch.no_grad():
            for rounded, mean in zip(self._rounded[dtype].parameters(), self.average.parameters(), strict=True):
                rounded.copy_(mean)
        return self._rounded[dtype]

    def step(self) -> None:
        """One step, and the EMA's."""
        config = self.model.config
        frames = torch.randn(2, config.in_channels, FRAME, FRAME)
        noise = torch.randn(2, config.out_channels, FRAME, FRAME)
        told = {} if self.model.class_embedding is None else {"class_labels": torch.zeros(2, dtype=torch.long)}
        loss = torch.nn.functional.mse_loss(self.model(frames, 500, **told).sample, noise)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._optimizer.zero_grad()
        with torch.no_grad():
            for mean, raw in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(raw, 1 - DECAY)
        self.steps += 1

    def run(self, steps: int) -> None:
        """So many steps."""
        for _ in range(steps):
            self.step()


class Kitchen:
    """A publisher, its hub behind HTTP, and a follower, which may fetch in a process of its own (`apart`)."""

    def __init__(self, root: Path, *, apart: bool = False) -> None:
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
        self._key, self._apart = key, apart
        self.live: LiveModel[Any] = LiveModel(Pretrained(UNet2DModel))

    @contextmanager
    def open(self) -> Iterator[Wire]:
        """While everything runs; the follower in its own thread, behind a line on which bytes are counted."""
        with self.server, self.outbox.served(), counted(self.server.url) as wire:
            http = HttpHub(wire.url, self.token)
            self.follower = Follower(
                http, "stable", [self._key.public], self.root / "cache", self.live, apart=self._apart
            )
            self.follower.start()
            yield wire
            self.follower.close()
            http.close()

    @contextmanager
    def repository(self) -> Iterator[Callable[[Training, torch.dtype], int]]:
        """While versions also go to a repository of that hub, as from another machine; a call hands over, publishes, and
        returns the bytes over the publisher's sockets, both ways."""
        outbox = Outbox(self.root / "to-repository")
        with counted(self.server.url) as wire, outbox.served():
            hub = HuggingFaceHub(
                "bench/versions", endpoint=wire.url, token=self.token, create=True, commits_per_hour=1e6
            )
            publisher = Publisher(hub, outbox, self._key, keep=3)

            def publish(training: Training, dtype: torch.dtype) -> int:
                ticket = Ticket("bench", "main", "seg1", training.steps, ema=True)
                put(self.root / "to-repository", training.rounded(dtype).save_pretrained, ticket)
                before = wire.total
                assert publisher.step() == 0.0
                return wire.total - before

            yield publish

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


def general(new: Path, old: Path) -> tuple[int, int]:
    """Two general encodings of a file, in bytes: alone, and against the one before."""
    data, before = new.read_bytes(), old.read_bytes()
    alone = len(zstandard.ZstdCompressor(level=9).compress(data))
    window = max(10, (len(data) + len(before)).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(6, window_log=min(window, 31), enable_ldm=True)
    patch = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT),
        compression_params=parameters,
    ).compress(data)
    return alone, len(patch)


class Client:
    """`upload_folder`, `snapshot_download` and `from_pretrained`, as one writes them without a follower."""

    def __init__(self, kitchen: Kitchen) -> None:
        from huggingface_hub import HfApi

        self._kitchen, self._round = kitchen, 0
        self._api = HfApi(endpoint=kitchen.server.url, token=kitchen.token)
        self._api.create_repo("bench/net")

    def round(self, folder: Path) -> float:
        """Seconds; what is uploaded differs from what was there, or nothing would be."""
        from diffusers import UNet2DModel
        from huggingface_hub import snapshot_download

        self._round += 1
        cache = self._kitchen.root / f"hf{self._round}"
        began = time.perf_counter()
        self._api.upload_folder(repo_id="bench/net", folder_path=folder)
        down = snapshot_download(
            "bench/net", endpoint=self._kitchen.server.url, token=self._kitchen.token, cache_dir=cache
        )
        UNet2DModel.from_pretrained(down)
        seconds = time.perf_counter() - began
        shutil.rmtree(cache)
        return seconds


def measure_bytes(result: Result, kitchen: Kitchen, wire: Wire, training: Training, given: Given) -> None:
    """Versions every 10 and every 100 steps."""
    with kitchen.repository() as upload:
        upload(training, given.dtype)
        for every, rounds in ((10, given.rounds), (100, max(1, given.rounds // 5))):
            shares, hops, ratios, alone, against = [], [], [], [], []
            for _ in range(rounds):
                training.run(every)
                before = wire.total
                _, version = kitchen.publish(training, given.dtype)
                over = wire.total - before
                manifest = decode_manifest(kitchen.hub.manifest(version), "")
                assert isinstance(manifest.base, Base), "no delta was worth it"
                shares.append(over / manifest.size)
                hops.append(upload(training, given.dtype) / manifest.size)
                name = next(name for name in manifest.files if name.endswith(".safetensors"))
                squeezed, patch = general(kitchen.hub.path(version, name), kitchen.hub.path(version - 1, name))
                alone.append(squeezed / manifest.size)
                against.append(patch / manifest.size)
                ratios.append(over / min(squeezed, patch))
            result.note(
                **{
                    f"every_{every}_share": statistics.mean(shares),
                    f"every_{every}_hop1_share": statistics.mean(hops),
                    f"every_{every}_zstd_share": statistics.mean(alone),
                    f"every_{every}_patch_share": statistics.mean(against),
                    f"every_{every}_of_best_general": statistics.mean(ratios),
                }
            )
        result.note(full_version_bytes=float(manifest.size), steps=training.steps)


def measure_times(result: Result, kitchen: Kitchen, training: Training, given: Given) -> None:
    """The follower's way and the client's, in turns."""
    client, ours, theirs = Client(kitchen), [], []
    for _ in range(given.rounds):
        training.run(given.between)
        ours.append(kitchen.publish(training, given.dtype)[0])
        folder = kitchen.root / "folder"
        training.rounded(given.dtype).save_pretrained(folder)
        theirs.append(client.round(folder))
    against = ratio(ours, theirs)
    ours.sort()
    result.note(
        commit_to_served_seconds=statistics.median(ours),
        commit_to_served_p95_seconds=ours[min(len(ours) - 1, int(0.95 * len(ours)))],
        hub_client_seconds=statistics.median(theirs),
        commit_to_served_of_hub_client=against.mean,
        rounds=len(ours),
    )
    result.remark(commit_to_served_of_hub_client=str(against))


def serve_from(root: Path, stopping: Any) -> None:
    """The publisher, the hub and the follower, in a process of their own."""
    torch.set_num_threads(1)
    kitchen = Kitchen(root, apart=True)
    with kitchen.open():
        be_nice()  # as the publisher's role is; the hub and the follower have their threads by now
        while not stopping.is_set():
            kitchen.publisher.step()
            kitchen.outbox.wait(0.1)


def measure_training(result: Result, root: Path, training: Training, given: Given) -> None:
    """Windows of steps with and without publishing, in turns."""
    context = multiprocessing.get_context("spawn")
    stopping = context.Event()
    service = context.Process(target=serve_from, args=(root, stopping), daemon=True)
    service.start()
    handed: list[float] = []

    def window(publishing: bool) -> float:
        began = time.perf_counter()
        for _ in range(given.windows):
            if publishing:
                start = time.perf_counter()
                held = training.rounded(given.dtype)
                courier.give(held.save_pretrained, Ticket("bench", "main", "seg1", training.steps, ema=True))
                handed.append(time.perf_counter() - start)
            training.run(10)
        return time.perf_counter() - began

    with Courier(root / "outbox") as courier:
        window(True)
        pairs = [(window(True), window(False)) for _ in range(given.rounds)]
        pairs += [(window(True), quiet) for quiet in [window(False)]]
    stopping.set()
    service.join(60)
    against = ratio([busy for busy, _ in pairs], [quiet for _, quiet in pairs])
    result.note(
        step_seconds=statistics.median(quiet for _, quiet in pairs) / 10 / given.windows,
        copy_seconds=statistics.median(handed),
        training_slowed=against.mean - 1,
    )
    result.remark(training_slowed=f"a window of {10 * given.windows} steps against one without: {against}")


@dataclass(frozen=True)
class Given:
    """What was asked for."""

    rounds: int
    dtype: torch.dtype
    between: int
    warm: int
    windows: int


PHASES = ("bytes", "times", "training")


def measure(result: Result, model: str, phases: Sequence[str], given: Given) -> None:
    """Fill the result."""
    training = Training(SIZES[model])
    result.note(numbers=training.numbers)
    training.run(given.warm)  # AdamW's first steps are of full size, whatever the gradient
    with tempfile.TemporaryDirectory() as place:
        kitchen = Kitchen(Path(place) / "one")
        with kitchen.open() as wire:
            kitchen.publish(training, given.dtype)
            if "bytes" in phases:
                measure_bytes(result, kitchen, wire, training, given)
            if "times" in phases:
                measure_times(result, kitchen, training, given)
        if "training" in phases:
            measure_training(result, Path(place) / "other", training, given)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="small")
    parser.add_argument("--only", choices=PHASES, help="one of the three; all otherwise")
    parser.add_argument("--rounds", type=int, default=10, help="versions every 10 steps; a fifth as many every 100")
    parser.add_argument("--between", type=int, default=10, help="steps between two versions whose times are taken")
    parser.add_argument("--warm", type=int, default=30, help="steps before the first version")
    parser.add_argument("--windows", type=int, default=1, help="tens of steps in a window of training")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of what is published")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    phases = PHASES if asked.only is None else (asked.only,)
    targets = tuple(target for target in TARGETS if OF[target.figure] in phases)
    result = Result(f"publish, {asked.model} in {asked.dtype}", targets)
    dtype = getattr(torch, asked.dtype)
    measure(result, asked.model, phases, Given(asked.rounds, dtype, asked.between, asked.warm, asked.windows))
    result.show(as_json=asked.json)


if __name__ == "__main__":
    main()
