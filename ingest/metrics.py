"""The pipeline's metrics for Prometheus, made from its health at the moment they are asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from ingest.pipeline import PipelineHealth

_COUNTERS = {
    "annotator": {
        "steps": "steps that got their outcome",
        "samples": "samples put out",
        "empty": "steps without a sample",
        "dead": "steps that became dead letters",
        "commits": "durable commits",
    },
    "archiver": {
        "shards": "shards published",
        "entries": "samples, steps and session records in published shards",
        "bytes": "bytes of published shards",
        "conflicts": "shards that another archiver had published first",
    },
}
_GAUGES = {
    "annotator": {
        "open_sessions": "sessions that have not ended",
        "lag_offsets": "records of steps without an outcome",
        "lag_seconds": "age of the oldest record of steps without an outcome",
        "delay_seconds": "from the gateway's commit to the outcome's, for the oldest step of the last commit",
    },
    "archiver": {
        "lag_offsets": "records in no published shard",
        "lag_seconds": "age of the oldest record in no published shard",
    },
}


class PipelineCollector(Collector):
    """Turns a `PipelineHealth` into metrics called `stovetop_annotator_…` and `stovetop_archiver_…`."""

    def __init__(self, health: Callable[[], PipelineHealth]) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        health = self._health()
        for part, measured in (("annotator", health.annotator), ("archiver", health.archiver)):
            if measured is None:
                continue
            for name, text in _COUNTERS[part].items():
                yield CounterMetricFamily(f"stovetop_{part}_{name}", text, value=getattr(measured, name))
            for name, text in _GAUGES[part].items():
                yield GaugeMetricFamily(f"stovetop_{part}_{name}", text, value=getattr(measured, name))


@contextlib.contextmanager
def serve_metrics(host: str, port: int, health: Callable[[], PipelineHealth]) -> Iterator[int]:
    """Serve them at `http://host:port/metrics` from a thread; gives the port."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PipelineCollector(health))
    server, thread = start_http_server(port, host, registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
