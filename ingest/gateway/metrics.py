"""What the gateway counts, for Prometheus. No session id is ever a label.

The names of HTTP's are OpenTelemetry's (semantic conventions for HTTP), in Prometheus' spelling.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ingest.sessions import Appended, Batch

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
GROUPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SIZES = (1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 1 << 30)


class Metrics:
    """One gateway's own registry, so that several gateways can stand in one process (tests do that)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.steps = Counter(
            "ingest_steps",
            "Steps by what became of them: ok, duplicate, dead_letter (taken, with a fault), rejected (not taken)",
            ["result"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "ingest_dead_letters", "Steps that were taken with a fault", ["reason"], registry=registry
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
        self.sockets = Gauge("ingest_open_sockets", "WebSockets that are open", registry=registry)
        self.socket_credit = Gauge(
            "ingest_socket_credit_bytes", "Bytes that sockets may send, or that wait for the disk", registry=registry
        )
        self.backpressure = Counter(
            "ingest_backpressure",
            "Requests that were refused for want of room, by problem type",
            ["reason"],
            registry=registry,
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
        self.request_seconds = Histogram(
            "http_server_request_duration_seconds",
            "Time to answer",
            ["http_request_method", "http_route", "http_response_status_code"],
            buckets=SECONDS,
            registry=registry,
        )
        self.body_bytes = Histogram(
            "http_server_request_body_size_bytes", "Sizes of bodies, decoded", buckets=SIZES, registry=registry
        )

    def appended(self, appended: Appended, batch: Batch) -> None:
        """A batch was taken, all or in part."""
        new = batch.steps[appended.duplicates :]
        dead = [step.rejected.reason for step in new if step.rejected is not None]
        if appended.taken:
            self.steps.labels("ok").inc(appended.taken - len(dead))
            self.bytes.inc(sum(batch.sizes[appended.duplicates :]))
        if appended.duplicates:
            self.steps.labels("duplicate").inc(appended.duplicates)
        if dead:
            self.steps.labels("dead_letter").inc(len(dead))
        for reason in dead:
            self.dead_letters.labels(reason).inc()

    def refused(self, steps: int) -> None:
        """A batch of so many steps was not taken."""
        self.steps.labels("rejected").inc(steps)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
