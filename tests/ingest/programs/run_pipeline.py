"""Runs a pipeline until SIGTERM. Arguments: a pickled (settings, log, store)."""

from __future__ import annotations

import logging
import pickle
import signal
import sys
import threading

from ingest.pipeline import Pipeline


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    settings, log, store = pickle.loads(bytes.fromhex(sys.argv[1]))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    pipeline = Pipeline(settings, log, store)
    threading.Thread(target=announce, args=(pipeline, stop), daemon=True).start()
    pipeline.run(stop)


def announce(pipeline: Pipeline, stop: threading.Event) -> None:
    while pipeline.health.archiver is None or pipeline.metrics_port is None:
        stop.wait(0.01)
    print(pipeline.metrics_port, flush=True)


if __name__ == "__main__":
    main()
