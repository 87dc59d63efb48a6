"""`/livez`, `/readyz` and `/metrics`: how the server itself does."""

from __future__ import annotations

import apsw
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from control.api import Live, Ready
from control.server.access import Doors
from control.server.hub import Hub
from control.server.switchboard import Switchboard
from control.store import runs as stored


def state_routes(switchboard: Switchboard, hub: Hub, doors: Doors) -> APIRouter:
    """The doors of supervisors and of Prometheus."""
    router = APIRouter(tags=["server"])
    registry = CollectorRegistry()
    registry.register(_Figures(switchboard, hub))

    @router.get("/livez")
    async def live() -> Live:
        """The server answers."""
        return Live()

    @router.get("/readyz", responses={503: {"model": Ready}})
    async def ready(response: Response) -> Ready:
        """The store can be written."""
        store = switchboard.journal.store
        try:
            store.connection.execute("BEGIN IMMEDIATE; ROLLBACK")
        except apsw.Error as error:
            response.status_code = 503
            return Ready(status="failing", reason=f"{store.path} cannot be written: {error}", seq=store.last_seq)
        return Ready(status="ok", seq=store.last_seq)

    @router.get("/metrics", dependencies=[Depends(doors.read)])
    async def metrics() -> Response:
        """Figures for Prometheus; a scraper needs a token with the scope `read`."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


class _Figures(Collector):
    def __init__(self, switchboard: Switchboard, hub: Hub) -> None:
        self._switchboard, self._hub = switchboard, hub

    def collect(self) -> list[Metric]:
        store = self._switchboard.journal.store
        outcomes = CounterMetricFamily("stovetop_control_commands", "Commands by their outcome", labels=["outcome"])
        for outcome, count in store.connection.execute(
            "SELECT coalesce(outcome, 'open'), count(*) FROM commands GROUP BY outcome"
        ):
            outcomes.add_metric([str(outcome)], float(count))
        steps = GaugeMetricFamily("stovetop_run_step", "The run's optimizer step", labels=["run"])
        values = GaugeMetricFamily("stovetop_run_metric", "The newest value of a metric", labels=["run", "metric"])
        for run in stored.runs(store.connection):
            steps.add_metric([run.run], float(run.step or 0))
            newest = stored.last_metrics(store.connection, run.run)
            for name, value in (newest.values if newest else {}).items():
                values.add_metric([run.run, name], float("nan") if value is None else value)
        connected = sum(seat.link is not None for seat in self._switchboard.roster)
        return [
            CounterMetricFamily("stovetop_control_events", "Events ever stored", value=store.last_seq),
            GaugeMetricFamily("stovetop_control_watchers", "Connected watchers", value=self._hub.watchers),
            CounterMetricFamily("stovetop_control_watchers_sent_away", "Too slow", value=self._hub.sent_away),
            GaugeMetricFamily("stovetop_control_actors", "Connected actors", value=connected),
            outcomes,
            steps,
            values,
        ]
