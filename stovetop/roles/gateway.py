"""The gateway's process."""

from __future__ import annotations

from auth import TokenStore
from ingest.gateway.serve import serve_gateway
from ingest.retention import steps_floor
from stovetop.settings import Settings


def run(settings: Settings) -> None:
    """Take sessions in until told to stop; records that are archived and annotated may be forgotten."""
    log, store = settings.log.open(), settings.archive.open()
    serve_gateway(
        settings.gateway,
        TokenStore(settings.tokens),
        log,
        floor=lambda partition: steps_floor(log, store, partition),
        spool=settings.log.folder / "spool",
    )
