"""The gateway's process."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from auth import TokenStore
from control import EventType
from control.api import ReportedEvent
from ingest.gateway.gateway import Gateway
from ingest.gateway.serve import serve_gateway
from ingest.retention import steps_floor
from ingest.types import Point
from stovetop.errors import StovetopError
from stovetop.reporting import Telling
from stovetop.settings import Settings

if TYPE_CHECKING:
    from publish.trained import Asked

logger = logging.getLogger(__name__)


class VersionsOn:
    """Names the published versions that had trained on samples, for certificates: see `publish.trained.Asked`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _asked(self) -> Asked:
        from publish.trained import Asked  # the hub's libraries are needed for a certificate only

        return Asked()

    def __call__(self, positions: Mapping[str, Sequence[Point]]) -> tuple[str, ...] | None:
        """None where the hub, or whom to trust, is not known now."""
        from stovetop.auditing import record_of

        try:
            return tuple(trained.label for trained in record_of(self._settings, positions, self._asked).versions)
        except (StovetopError, OSError) as error:
            logger.warning("the certificate names no versions: %s", error)
            return None


def run(settings: Settings) -> None:
    """Take sessions in until told to stop; records that are archived and annotated may be forgotten."""
    log, store = settings.log.open(), settings.archive.open()
    serve_gateway(
        settings.gateway,
        TokenStore(settings.tokens),
        log,
        floor=lambda partition: steps_floor(log, store, partition),
        spool=settings.log.folder / "spool",
        trained_on=VersionsOn(settings),
        observe=lambda gateway: Telling(settings, lambda: [_figures(gateway, settings.run)]),
    )


def _figures(gateway: Gateway, run: str) -> ReportedEvent:
    count = gateway.metrics.registry.get_sample_value
    body = {
        "component": "gateway",
        "steps": count("ingest_steps_total", {"result": "ok"}) or 0.0,
        "dead": count("ingest_steps_total", {"result": "dead_letter"}) or 0.0,
        "open_sessions": count("ingest_open_sessions"),
        "spool_bytes": count("ingest_spool_bytes") or 0.0,
        "unready": gateway.unready(),
    }
    return ReportedEvent(run=run, type=EventType.PIPELINE, body=body)
