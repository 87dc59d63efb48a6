"""`/livez`, `/readyz` and `/metrics`: how the server itself does."""

from __future__ import annotations

import asyncio

import apsw
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from control.api import Live, Ready
from control.server.access import Doors
from control.server.desk import Desk
from control.server.hub import Hub
from control.server.switchboard import Switchboard
from control.store import runs as stored
from control.store.readers import Readers

READY_SECONDS = 5.0


def state_routes(switchboard: Switchboard, desk: Desk, readers: Readers, hub: Hub, doors: Doors) -> APIRouter:
    """The doors of supervisors and of Prometheus."""
    router = APIRouter(tags=["server"])
    registry = CollectorRegistry()
    registry.register(_Figures(switchboard, readers, hub))

    @router.get("/livez")
    async def live() -> Live:
        """The server answers."""
        return Live()

    @router.get("/readyz", responses={503: {"model": Ready}})
    async def ready(response: Response) -> Ready:
        """The store can be written."""
        store = switchboard.journal.store
        try:
            async with asyncio.timeout(READY_SECONDS):
                await desk.do(store.connection.execute, "BEGIN IMMEDIATE; ROLLBACK")
        except (apsw.Error, TimeoutError) as error:
            response.status_code = 503
            reason = str(error) or f"the disk has not answered for {READY_SECONDS:g} s"
            return Ready(status="failing", reason=f"{store.path} cannot be written: {reason}", seq=hub.last)
        return Ready(status="ok", seq=hub.last)

    @router.get("/metrics", dependencies=[Depends(doors.read)])
    def metrics() -> Response:
        """Figures for Prometheus; a scraper needs a token with the scope `read`."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


class _Figures(Collector):
    def __init__(self, switchboard: Switchboard, readers: Readers, hub: Hub) -> None:
        self._switchboard, self._readers, self._hub = switchboard, readers, hub

    def collect(self) -> list[Metric]:
        connection = self._readers.connection()
        outcomes = CounterMetricFamily("stovetop_control_commands", "Commands by their outcome", labels=["outcome"])
        for outcome, count in connection.execute(
            "SELECT coalesce(outcome, 'open'), count(*) FROM commands GROUP BY outcome"
        ):
            outcomes.add_metric([str(outcome)], float(count))
        steps = GaugeMetricFamily("stovetop_run_step", "The run's optimizer step", labels=["run"])
        values = GaugeMetricFamily("stovetop_run_metric", "The newest value of a metric", labels=["run", "metric"])
        for run in stored.runs(connection):
            steps.add_metric([run.run], float(run.step or 0))
            newest = stored.last_metrics(connection, run.run)
            for name, value in (newest.values if newest else {}).items():
                values.add_metric([run.run, name], float("nan") if value is None else value)
        connected = sum(seat.link is not None for seat in self._switchboard.roster)
        return [
            CounterMetricFamily("stovetop_control_events", "Events ever stored", value=self._hub.last),
            GaugeMetricFamily("stovetop_control_watchers", "Connected watchers", value=self._hub.watchers),
            CounterMetricFamily("stovetop_control_watchers_sent_away", "Too slow", value=self._hub.sent_away),
            GaugeMetricFamily("stovetop_control_actors", "Connected actors", value=connected),
            outcomes,
            steps,
            values,
        ]
