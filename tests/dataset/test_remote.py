"""Base data and history in S3: the same samples in the same order as from a folder, through any cache and any kill."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from dataset import RemoteOptions, ShardSource, SourceError, make_interactive_dataset
from tests.dataset.streams import MemoryLog, Reading, archive_of, decode, key, step, write_tar
from tests.dataset.train_from_s3 import PARTITIONS, sources_in_folder, sources_in_s3, train, train_in_s3
from tests.forks import Forked
from tests.s3_servers import moto_server, new_bucket

PRELOAD = ("tests.dataset.train_from_s3",)
Address = tuple[str, str]


def upload(folder: Path, endpoint: str) -> str:
    """Everything below a folder, and where it is then."""
    bucket = new_bucket(endpoint)
    client = boto3.client("s3", endpoint_url=endpoint)
    for path in folder.rglob("*.tar"):
        client.upload_file(str(path), bucket, f"data/{path.relative_to(folder)}")
    return f"s3://{bucket}/data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Base shards of 4 times 10 samples, and an archive of 40."""
    for number in range(4):
        keys = [f"base/{each:06d}-00" for each in range(10 * number, 10 * number + 10)]
        write_tar(tmp_path / "data/base" / f"{number}.tar", keys)
    log = MemoryLog(PARTITIONS)
    for number in range(40):
        log.append(number % PARTITIONS, [key(number)], float(number))
    archive_of(log, tmp_path / "data/archive", per_shard=7)
    return tmp_path / "data"


@pytest.fixture
def address(folder: Path, moto_endpoint: str) -> Address:
    return upload(folder, moto_endpoint), moto_endpoint


@pytest.mark.parametrize("cache_bytes", [1 << 20, 45_000, 25_000], ids=["all fits", "two tars fit", "one tar fits"])
def test_samples_come_as_from_a_folder_whatever_the_cache_holds(
    folder: Path, address: Address, tmp_path: Path, cache_bytes: int
) -> None:
    here = make_interactive_dataset(sources_in_folder(folder), seed=5)
    there = make_interactive_dataset(sources_in_s3(*address, tmp_path / "cache", cache_bytes), seed=5)
    expected = [step(here, 4) for _ in range(25)]
    assert [step(there, 4) for _ in range(25)] == expected
    held = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.tar~*"))
    assert held <= cache_bytes


def test_what_was_read_before_is_not_asked_for_again(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources_in_s3(*address, tmp_path / "cache", 1 << 20)["base"]
    first = Reading(source).read(40)
    assert len(set(first)) == 40

    def refuse(*arguments: object) -> None:
        raise AssertionError("asked S3 for bytes")

    monkeypatch.setattr("ingest.shards.s3_objects.S3Bucket.get", refuse)
    assert Reading(source).read(40) == first


@pytest.mark.parametrize("damage", ["cut", "not a tar"])
def test_a_torn_tar_is_refused_by_name(folder: Path, moto_endpoint: str, tmp_path: Path, damage: str) -> None:
    path = folder / "base/2.tar"
    path.write_bytes(path.read_bytes()[:4096] if damage == "cut" else b"hello" * 1000)
    source = sources_in_s3(upload(folder, moto_endpoint), moto_endpoint, tmp_path / "cache", 1 << 20)["base"]
    with pytest.raises(SourceError, match=r"base/2\.tar is refused"):
        Reading(source).read(1)


def test_a_tar_that_was_replaced_while_it_is_read_is_an_error(address: Address, tmp_path: Path) -> None:
    options = RemoteOptions(endpoint=address[1], cache=tmp_path / "cache")
    reading = Reading(ShardSource(f"{address[0]}/base", decode=decode, shuffle=False, remote=options))
    assert len(reading.read(3)) == 3
    for copy in (tmp_path / "cache").rglob("*.tar~*"):
        copy.unlink()
    bucket = address[0].split("/")[2]
    boto3.client("s3", endpoint_url=address[1]).put_object(Bucket=bucket, Key="data/base/0.tar", Body=b"x" * 20_480)
    with pytest.raises(SourceError, match=r"base/0\.tar: it is not \(or no longer\)"):
        reading.read(3)


def test_an_archive_in_which_shards_were_replaced_is_no_base_data(
    folder: Path, address: Address, tmp_path: Path
) -> None:
    replaced = folder / "archive/samples/0/00000000000000000000.000001.tar"
    replaced.write_bytes((folder / "archive/samples/0/00000000000000000000.tar").read_bytes())
    with pytest.raises(SourceError, match="this is an archive"):
        Reading(ShardSource(folder / "archive", decode=decode)).read(1)
    options = RemoteOptions(endpoint=address[1], cache=tmp_path / "cache")
    with pytest.raises(SourceError, match="this is an archive"):
        Reading(ShardSource(f"{upload(folder, address[1])}/archive", decode=decode, remote=options)).read(1)


def test_a_wrong_address_says_what_is_wrong(address: Address, tmp_path: Path) -> None:
    options = RemoteOptions(endpoint=address[1], cache=tmp_path / "cache")
    with pytest.raises(SourceError, match="there is no such bucket"):
        Reading(ShardSource("s3://nowhere-at-all/base", remote=options)).read(1)
    with pytest.raises(SourceError, match="reads s3://bucket/prefix"):
        Reading(ShardSource("s3:///base", remote=options)).read(1)


@pytest.mark.parametrize(
    "lives", [3, pytest.param(25, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])], ids=lambda lives: f"{lives}"
)
@pytest.mark.timeout(300)
def test_a_run_that_is_killed_again_and_again_reads_what_one_reads_that_is_not(
    folder: Path, address: Address, tmp_path: Path, lives: int
) -> None:
    """Each life has another number of workers, and copies that were cut short, removed or left by the one before."""
    chance = random.Random(11)
    checkpoint, steps = tmp_path / "checkpoint.json", 15 * lives

    def trained() -> int:
        return len(json.loads(checkpoint.read_text())["trained"]) if checkpoint.exists() else 0

    for life in range(lives):
        last = life == lives - 1
        arguments = (*address, tmp_path / "cache", 45_000, checkpoint, (0, 2)[life % 2], steps if last else 1 << 30)
        process = Forked(PRELOAD, train_in_s3, *arguments)
        process.start()
        target = trained() + 30
        deadline = time.monotonic() + 100
        while process.is_alive() and (last or trained() < min(target, 4 * steps - 20)):
            assert time.monotonic() < deadline
            time.sleep(chance.random() / 50)
        if not last:
            assert process.is_alive()
            process.kill()
        process.join()
        for copy in (tmp_path / "cache").rglob("*~*"):
            if chance.random() < 0.3:
                copy.unlink()
    expected = train(sources_in_folder(folder), tmp_path / "expected.json", 0, steps)
    assert json.loads(checkpoint.read_text())["trained"] == expected


def test_reading_waits_while_the_store_is_away(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_endpoint: str
) -> None:
    with moto_server() as endpoint:
        address = upload(folder, endpoint)
        port = int(endpoint.rpartition(":")[2])
        source = sources_in_s3(address, endpoint, tmp_path / "cache", 25_000)["base"]
        reading = Reading(source)
        first = reading.read(5)
    waited: list[float] = []
    back: list[Callable[[], None]] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            again = moto_server(port)
            again.__enter__()
            back.append(lambda: again.__exit__(None, None, None))

    monkeypatch.setattr("ingest.shards.fetching.time.sleep", sleep)
    for copy in (tmp_path / "cache").rglob("*.tar~*"):
        copy.unlink()
    try:
        rest = reading.read(35)
    finally:
        for end in back:
            end()
    assert len(waited) >= 3
    assert sorted(first + rest) == [f"base/{number:06d}-00" for number in range(40)]
