"""What the gateway counts, for Prometheus. No session id is ever a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ingest.sessions import Appended, Batch

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
GROUPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """One gateway's own registry, so that several gateways can stand in one process (tests do that)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.steps = Counter(
            "ingest_steps", "Steps by what became of them: ok, duplicate", ["result"], registry=registry
        )
        self.bytes = Counter("ingest_bytes", "Bytes of steps that were taken", registry=registry)
        self.sessions = Counter(
            "ingest_sessions",
            "Sessions by event: opened, client, eos, timeout, forgotten",
            ["event"],
            registry=registry,
        )
        self.open_sessions = Gauge("ingest_open_sessions", "Sessions that are open", registry=registry)
        self.inflight_bytes = Gauge("ingest_inflight_bytes", "Bytes of the budget that are taken", registry=registry)
        self.backpressure = Counter(
            "ingest_backpressure", "Requests that were refused for want of room", ["reason"], registry=registry
        )
        self.gaps = Counter("ingest_sequence_gaps", "Requests that left out steps", registry=registry)
        self.durable_seconds = Histogram(
            "ingest_durable_seconds", "From a request's body to its commit", buckets=SECONDS, registry=registry
        )
        self.group_requests = Histogram(
            "ingest_group_requests", "Requests in one commit", buckets=GROUPS, registry=registry
        )
        self.trimmed = Counter("ingest_trimmed_records", "Records that retention dropped", registry=registry)
        self.spool_bytes = Gauge("ingest_spool_bytes", "Bytes that wait here for a broker", registry=registry)
        self.requests = Counter(
            "ingest_http_requests", "Answers by route and status", ["route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "ingest_http_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=registry
        )

    def appended(self, appended: Appended, batch: Batch) -> None:
        """A batch was taken, all or in part."""
        if appended.taken:
            self.steps.labels("ok").inc(appended.taken)
            self.bytes.inc(sum(batch.sizes[appended.duplicates :]))
        if appended.duplicates:
            self.steps.labels("duplicate").inc(appended.duplicates)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
