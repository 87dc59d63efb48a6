"""A gateway on Kafka in a process of its own, for `benchmarks.ingest`; prints its port."""

from __future__ import annotations

import sys
from pathlib import Path

from auth.tokens import TokenStore
from ingest.gateway import serve_gateway
from ingest.kafka import KafkaLayout, KafkaLog, KafkaOptions
from ingest.settings import GatewaySettings


def main() -> None:
    """Serve until SIGTERM. Arguments: folder, servers, topic prefix, bytes of a record, shares, number; and bytes that
    a partition keeps, if not all.
    """
    folder, servers, prefix, record_bytes, shares, number, *kept = sys.argv[1:]
    layout = KafkaLayout(prefix, 4, int(shares))
    retention = int(kept[0]) if kept else None
    log = KafkaLog(servers, layout, KafkaOptions(topic_prefix=prefix, lease_seconds=2.0, retention_bytes=retention))
    serve_gateway(
        GatewaySettings(port=0, record_bytes=int(record_bytes), budget_bytes=256 << 20),
        TokenStore(Path(folder) / "tokens.json"),
        log,
        spool=Path(folder) / f"{prefix}-spool{number}",
        announce=lambda host, port: print(port, flush=True),
    )


if __name__ == "__main__":
    main()
