"""The pipeline's metrics for Prometheus, made from its health at the moment they are asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.archive_lane import Rotation
from ingest.archiver import SIZES, ArchiverHealth

if TYPE_CHECKING:
    from ingest.keeper import KeeperHealth
    from ingest.pipeline import PipelineHealth

_COUNTERS = {
    "steps": "steps that got their outcome",
    "samples": "samples put out",
    "empty": "steps without a sample",
    "dead": "steps that became dead letters",
    "commits": "durable commits",
}
_GAUGES = {
    "open_sessions": "sessions that have not ended",
    "lag_offsets": "records of steps without an outcome",
    "lag_seconds": "age of the oldest record of steps without an outcome",
    "delay_seconds": "from the gateway's commit to the outcome's, for the oldest step of the last commit",
}


class PipelineCollector(Collector):
    """Turns a `PipelineHealth` into metrics: `stovetop_annotator_…`, `stovetop_archive_…` and `stovetop_deletion_…`."""

    def __init__(self, health: Callable[[], PipelineHealth]) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        health = self._health()
        if health.annotator is not None:
            for name, text in _COUNTERS.items():
                yield CounterMetricFamily(f"stovetop_annotator_{name}", text, value=getattr(health.annotator, name))
            for name, text in _GAUGES.items():
                yield GaugeMetricFamily(f"stovetop_annotator_{name}", text, value=getattr(health.annotator, name))
        if health.archiver is not None:
            yield from archive_metrics(health.archiver)
        if health.keeper is not None:
            yield from deletion_metrics(health.keeper)


def archive_metrics(health: ArchiverHealth) -> Iterator[Metric]:
    """Those of the archiver; lag is measured after publication."""
    for name, text, value in (
        ("lag_offsets", "records in no published shard", health.lag_offsets),
        ("lag_seconds", "age of the oldest record in no published shard", health.lag_seconds),
    ):
        yield GaugeMetricFamily(f"stovetop_archive_{name}", text, value=value)
    for name, text, value in (
        ("entries", "samples, steps and session records in published shards", health.entries),
        ("conflicts", "shards that another archiver had published first", health.conflicts),
        ("failures", "attempts on a shard that the store did not take", health.failures),
    ):
        yield CounterMetricFamily(f"stovetop_archive_{name}", text, value=value)
    rotations = CounterMetricFamily(
        "stovetop_archive_rotations", "shards published, by why they were closed", labels=["reason"]
    )
    for reason in Rotation:
        rotations.add_metric([reason], health.rotations.get(reason, 0))
    yield rotations
    counts = list(accumulate(health.sizes))
    bounds = [*map(str, SIZES), "+Inf"]
    sizes = list(zip(bounds, counts, strict=True))
    yield HistogramMetricFamily(
        "stovetop_archive_shard_bytes", "sizes of published shards", buckets=sizes, sum_value=health.bytes
    )


def deletion_metrics(health: KeeperHealth) -> Iterator[Metric]:
    """Those of the keeper; whoever promised a time for deletions watches the oldest."""
    for name, text, value in (
        ("pending", "deleted sessions of which the archive may still hold something, hidden", health.pending),
        ("pending_seconds", "age of the oldest request among them", health.pending_seconds),
        ("erased", "deleted sessions of which the archive is clean", health.erased),
    ):
        yield GaugeMetricFamily(f"stovetop_deletion_{name}", text, value=value)


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
