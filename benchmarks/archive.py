"""Shards written and uploaded, beside a bare webdataset `TarWriter` to the same disk and beside bare boto3.

Each round measures all in turns, so that what else the machine does meets all alike; ratios are those of turns in the
same round. Ours is durable when it is timed (fsync), checksummed (a CRC-32C for each sample, SHA-256 for the shard), and
indexed; the bare writer is timed twice, as it is, and with an fsync at the end. What is uploaded is one shard, by
`S3Store.create_if_absent` and by `boto3`'s `upload_file`, to the JuiceFS gateway on this machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any

import boto3
import webdataset

from benchmarks.pairs import middle, ratio
from benchmarks.result import Result, Target
from ingest.entries import sample_entry
from ingest.memory import MemoryLog
from ingest.shard_writer import ShardWriter
from ingest.shards import DirectoryStore
from ingest.shards.s3 import S3Store
from ingest.types import SAMPLES, Sample

SIZES = (10, 100)
"""Kilobytes of a sample."""
SHARD_BYTES = 64 << 20
TARGETS = (
    *(Target(f"write_{size}kb_ratio", ">=", 0.8) for size in SIZES),
    Target("upload_ratio", ">=", 0.8),
)
KEYS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def made(size: int) -> list[Sample]:
    """Samples of `size` kilobytes, as many as fill a shard: a picture and a line of JSON."""
    count = SHARD_BYTES // (size * 1000)
    noise = os.urandom(size * 1000 + count)  # each begins one byte later, so all differ
    return [
        Sample("visit", seq, 0, float(seq), {"json": b'{"x": %d}' % seq, "png": noise[seq : seq + size * 1000]})
        for seq in range(count)
    ]


def by_us(samples: Sequence[Sample], folder: Path) -> float:
    """Seconds to write and publish one shard of ours."""
    entries = [sample_entry(sample, offset, 0) for offset, sample in enumerate(samples)]
    began = time.perf_counter()
    writer = ShardWriter(DirectoryStore(folder), SAMPLES, 0, 0)
    for entry in entries:
        writer.add(entry)
        writer.record(entry.offset, entry.time)
    assert writer.publish()
    return time.perf_counter() - began


def by_webdataset(samples: Sequence[Sample], folder: Path, durable: bool) -> float:
    """Seconds to write the same with the bare writer."""
    dicts = [{"__key__": sample.key, **sample.members} for sample in samples]
    began = time.perf_counter()
    with open(folder / "bare.tar", "wb") as file:
        writer = webdataset.TarWriter(file, encoder=False)
        for each in dicts:
            writer.write(each)
        writer.close()
        file.flush()
        if durable:
            os.fsync(file.fileno())
    return time.perf_counter() - began


def write(result: Result, rounds: int, place: Path) -> None:
    """Shards to disk, for each size of samples."""
    for size in SIZES:
        samples = made(size)
        total = sum(len(value) for sample in samples for value in sample.members.values()) / 1e6
        rates: dict[str, list[float]] = {"ours": [], "bare": [], "fsynced": []}
        turns: dict[str, Callable[[Path], float]] = {
            "ours": lambda folder: by_us(samples, folder),  # noqa: B023  # called in this round
            "bare": lambda folder: by_webdataset(samples, folder, False),  # noqa: B023
            "fsynced": lambda folder: by_webdataset(samples, folder, True),  # noqa: B023
        }
        for number in range(rounds + 1):
            for name in _rotated(list(turns), number):
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    seconds = turns[name](Path(folder))
                if number:  # the first round warms up
                    rates[name].append(total / seconds)
        bare, fsynced = ratio(rates["ours"], rates["bare"]), ratio(rates["ours"], rates["fsynced"])
        result.note(
            **{
                f"write_{size}kb_mb_per_second": middle(rates["ours"]),
                f"bare_{size}kb_mb_per_second": middle(rates["bare"]),
                f"write_{size}kb_ratio": bare.mean,
                f"write_{size}kb_fsynced_ratio": fsynced.mean,
            }
        )
        result.remark(**{f"write_{size}kb": f"{bare} of the bare writer, {fsynced} of one that fsyncs too"})


def upload(result: Result, rounds: int, place: Path) -> None:
    """One shard of 100 KB samples to an S3 service."""
    samples = made(100)
    with _gateway(place) as endpoint:
        bucket = f"bench-{uuid.uuid4().hex}"
        client = boto3.client("s3", endpoint_url=endpoint)
        _patiently(lambda: client.create_bucket(Bucket=bucket))
        store = S3Store(f"s3://{bucket}/ours", endpoint=endpoint, staging=place / "staging").for_writing(MemoryLog())
        rates: dict[str, list[float]] = {"ours": [], "boto3": []}
        for number in range(rounds + 1):
            for name in _rotated(list(rates), number):
                writer = ShardWriter(store, SAMPLES, number, 0)
                for offset, sample in enumerate(samples):
                    writer.add(sample_entry(sample, offset, 0))
                    writer.record(offset, sample.time)
                writer._finish()
                began = time.perf_counter()
                if name == "ours":
                    assert writer.publish()
                else:
                    client.upload_file(str(writer._staged.path), bucket, f"bare/{number}.tar")
                seconds = time.perf_counter() - began
                writer.discard()
                if number:
                    rates[name].append(writer.size / 1e6 / seconds)
        compared = ratio(rates["ours"], rates["boto3"])
        result.note(
            upload_mb_per_second=middle(rates["ours"]),
            boto3_mb_per_second=middle(rates["boto3"]),
            upload_ratio=compared.mean,
        )
        result.remark(upload=f"{compared} of bare boto3")


@contextmanager
def _gateway(place: Path) -> Iterator[str]:
    """A JuiceFS gateway; everything it keeps is below `place`."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(KEYS)
    program, meta = str(Path(sys.executable).parent / "juicefs"), f"sqlite3://{place / 'meta.db'}"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    form = [program, "format", "--storage", "file", "--bucket", f"{place / 'data'}/", meta, "bench"]
    subprocess.run(form, check=True, **quiet)
    user = {"MINIO_ROOT_USER": KEYS["AWS_ACCESS_KEY_ID"], "MINIO_ROOT_PASSWORD": KEYS["AWS_SECRET_ACCESS_KEY"]}
    serve = ["timeout", "900", program, "gateway", "--no-usage-report", "--multi-buckets", meta, f"127.0.0.1:{port}"]
    process = subprocess.Popen(serve, env={**os.environ, **user}, **quiet)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _patiently(attempt: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            attempt()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _rotated(names: list[str], number: int) -> list[str]:
    return names[number % len(names) :] + names[: number % len(names)]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--place", type=Path, help="a folder on the disk that is measured; else a temporary one")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = Result("archive", TARGETS)
    with tempfile.TemporaryDirectory(prefix="stovetop-archive-", dir=given.place) as place:
        write(result, given.rounds, Path(place))
        upload(result, given.rounds, Path(place))
    result.show(as_json=given.json)


if __name__ == "__main__":
    main()
