"""The settings' way to S3: what `stovetop pipeline` archives there, `stovetop train` reads from there."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import boto3

from ingest.archiver import Archiver
from ingest.log import Append
from stovetop.roles.train import mixture
from stovetop.settings import load_settings
from tests.dataset.streams import record_value, write_tar
from tests.s3_servers import new_bucket


def test_base_and_history_come_from_the_bucket_that_the_archiver_writes_to(moto_endpoint: str, tmp_path: Path) -> None:
    bucket = new_bucket(moto_endpoint)
    tar = write_tar(tmp_path / "base.tar", [f"base/{number:06d}-00" for number in range(5)])
    boto3.client("s3", endpoint_url=moto_endpoint).upload_file(str(tar), bucket, "base/0.tar")
    file = tmp_path / "stovetop.toml"
    file.write_text(
        f'[app]\nbase_shards = "s3://{bucket}/base"\nto_tensors = "tests.dataset.streams:decode"\n'
        f'[archive]\nurl = "s3://{bucket}/shards"\nendpoint = "{moto_endpoint}"\n'
        "[log]\npartitions = 1\n[mixture.weights]\nbase = 1\nhistory = 1\nlive = 1\n"
    )
    settings = load_settings(file)
    log = settings.log.open()
    writer = log.writer("annotator")
    stop = threading.Event()
    stop.set()
    live = [f"visit/{number:06d}-00" for number in range(6)]
    for key in live:
        writer.commit([Append("samples", 0, "visit", record_value([key]), time.time())])
    Archiver(log, settings.archive.open(), settings.pipeline.archiver).run(stop)
    writer.trim("samples", 0, 6)  # so that the live source reads the archive too

    data = mixture(settings)
    trained: dict[str, list[str]] = {"base": [], "history": [], "live": []}
    for _ in range(30):
        taken = data.take(3, idle=lambda: False)
        assert taken is not None
        data.complete([taken[1]])
        for name, keys in trained.items():
            keys += taken[1].keys_of(name)
    data.close()
    writer.close()
    assert trained["live"] == live
    assert trained["history"]
    assert set(trained["history"]) <= set(live)
    assert len(set(trained["base"])) == 5
    assert list((tmp_path / ".stovetop/shard-cache").rglob("*.tar~*"))
