"""The mixture's statistics for Prometheus, as they were told last.

A trainer tells them from the thread that trains (`MixtureMetrics.take`), a scraper asks from another: what is asked for
then is not computed then, since readers belong to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dataset.statistics import MixtureStatistics

_GAUGES = {
    "weight": "the weight that an operator gave",
    "requested": "share that its weight asks for",
    "actual": "share of the samples that were trained lately",
    "samples_per_second": "samples trained",
    "bytes_per_second": "undecoded bytes of samples trained",
    "shortfall": "draws of late that found it dry",
    "age": "median seconds from a step's receipt to its training",
    "lag": "samples (or offsets of the log) that wait",
}
_COUNTERS = {
    "repeats": "samples that were given before",
    "skipped": "samples that could not be decoded",
    "jumped": "offsets that were left out to keep up",
}


class MixtureMetrics(Collector):
    """Metrics called `stovetop_mixture_…`, those of a source with its name as the label `source`.

    Register it with a `CollectorRegistry`, or with prometheus_client's own, and hand it every `MixtureStatistics`.
    """

    def __init__(self) -> None:
        self._statistics: MixtureStatistics | None = None

    def take(self, statistics: MixtureStatistics) -> None:
        """These are the newest; from any thread."""
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        statistics = self._statistics
        if statistics is None:
            return
        yield GaugeMetricFamily("stovetop_mixture_version", "changes of the weights", value=statistics.version)
        yield CounterMetricFamily("stovetop_mixture_samples", "samples trained", value=statistics.total)
        figures = {name: msgspec.structs.asdict(source) for name, source in statistics.sources.items()}
        for field, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"stovetop_mixture_source_{field}", text, labels=["source"])
            for name, source in figures.items():
                if source[field] is not None and not (field == "lag" and source[field] < 0):  # unknown is left out
                    gauge.add_metric([name], source[field])
            yield gauge
        for field, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"stovetop_mixture_source_{field}", text, labels=["source"])
            for name, source in figures.items():
                counter.add_metric([name], source[field])
            yield counter
