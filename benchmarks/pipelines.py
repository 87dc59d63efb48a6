"""A pipeline on Kafka in a process of its own, for `benchmarks.fortnight`: annotates, and archives into a directory."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path

from ingest.archive_lane import ArchiverSettings
from ingest.kafka import KafkaLayout, KafkaLog, KafkaOptions
from ingest.pipeline import PipelineSettings, run_pipeline
from ingest.shards import DirectoryStore

MAX_AGE = 2.0
"""Seconds after which a shard is published, however small it is."""


def main() -> None:
    """Work until SIGTERM. Arguments: folder, servers, topic prefix."""
    logging.basicConfig(level=logging.WARNING)
    folder, servers, prefix = sys.argv[1:]
    log = KafkaLog(servers, KafkaLayout(prefix, 4, 1), KafkaOptions(topic_prefix=prefix, lease_seconds=2.0))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    settings = PipelineSettings(archiver=ArchiverSettings(max_age=MAX_AGE))
    run_pipeline(settings, log, DirectoryStore(Path(folder) / "shards"), stop)


if __name__ == "__main__":
    main()
