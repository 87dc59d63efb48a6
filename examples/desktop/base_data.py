"""Writes the base shards: what scripted people do, as the base model learned it, in WebDataset layout.

`python -m examples.desktop.base_data FOLDER` makes them; the same seed makes the same bytes.
"""

from __future__ import annotations

import argparse
import os
from itertools import islice
from pathlib import Path

import webdataset

from examples.desktop.codec import encode
from examples.desktop.scripted import base_stream

__all__ = ["write_base_shards"]

SHARD_SAMPLES = 2_000


def write_base_shards(folder: Path, samples: int = 12_000, seed: int = 1) -> list[Path]:
    """Write `samples` transitions into shards under `folder`, each visible only when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    stream = base_stream(seed)
    written = []
    for number in range(-(-samples // SHARD_SAMPLES)):
        shard = folder / f"base-{number:04d}.tar"
        part = islice(stream, min(SHARD_SAMPLES, samples - number * SHARD_SAMPLES))
        staged = shard.with_name(f".{shard.name}.tmp")
        with webdataset.TarWriter(str(staged), mtime=0) as writer:
            for index, transition in enumerate(part):
                members = encode(transition.prev, transition.inputs, transition.next)
                writer.write({"__key__": f"base-{number:04d}-{index:06d}", **members})
        os.replace(staged, shard)
        written.append(shard)
    return written


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the desktop's base shards.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    write_base_shards(given.folder, given.samples, given.seed)


if __name__ == "__main__":
    main()
