"""The operator's side in Python: what the command line, agents and tests use. Plain HTTP, and a WebSocket to watch."""

from __future__ import annotations

import contextlib
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from control.api import (
    AuditPage,
    CommandDetail,
    CommandPage,
    CommandRecord,
    Comparison,
    Desired,
    EventPage,
    FollowerList,
    ModelTree,
    NewCommand,
    NewDesired,
    NewReport,
    NewSample,
    NewSamples,
    ReportAccepted,
    ReportedEvent,
    RunDetail,
    RunList,
    SampleList,
    SeriesPage,
    VersionList,
    WatchEvents,
    WatchMessage,
    WatchWelcome,
)
from control.errors import NoOutcome, Refused, ServerUnreachable
from control.protocol import DesiredState, Event, EventType, new_uuid

POLL_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0

Answer = TypeVar("Answer", bound=BaseModel)

WATCHED: TypeAdapter[WatchWelcome | WatchEvents] = TypeAdapter(WatchMessage)


class ControlClient:
    """Talks to one server. Raises Refused with the server's reason, or ServerUnreachable.

    `transport` is for tests; see httpx.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 15.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
            transport=transport,
            trust_env=False,
            verify=self.url.startswith("https"),  # reading all certificates takes longer than most commands
        )

    # Commands

    def send(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        run: str | None = None,
        wait: bool = True,
        timeout: float = 60.0,
        author: str | None = None,
        note: str = "",
        uuid: str | None = None,
        expires_in: float | None = None,
        expected_revision: int | None = None,
        dry_run: bool = False,
    ) -> CommandRecord:
        """Send a command and, with `wait`, return once it has its outcome, whichever that is.

        Sent again under the same uuid when the connection fails, so it acts once. Raises NoOutcome after `timeout`
        seconds; the command is then still open.
        """
        new = NewCommand(
            command=command,
            arguments=dict(arguments or {}),
            run=run,
            uuid=uuid or new_uuid(),
            author=author,
            note=note,
            expires_at=None if expires_in is None else time.time() + expires_in,
            expected_revision=expected_revision,
            dry_run=dry_run,
        )
        end = time.monotonic() + timeout
        while True:
            try:
                record = self._post("/api/v1/commands", new, CommandRecord)
                break
            except ServerUnreachable:
                if time.monotonic() >= end:
                    raise
                time.sleep(FIRST_PAUSE)
        return self.outcome(record.uuid, end - time.monotonic()) if wait and record.outcome is None else record

    def outcome(self, uuid: str, timeout: float = 60.0) -> CommandRecord:
        """Wait for the outcome of a command that was sent. Raises NoOutcome."""
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                record = self.command(uuid, wait=min(POLL_SECONDS, left)).command
            except ServerUnreachable:
                if left <= 0:
                    raise
                time.sleep(FIRST_PAUSE)
                continue
            if record.outcome is not None:
                return record
            if left <= 0:
                raise NoOutcome(
                    f"{record.command} ({uuid}) is still {record.status.value}, and the time for its outcome is over; "
                    "it keeps its place, ask for it again by its uuid"
                )

    def command(self, uuid: str, *, wait: float = 0.0) -> CommandDetail:
        """A command and its history; the server answers when it has its outcome, after `wait` seconds at most."""
        return self._get(f"/api/v1/commands/{uuid}", CommandDetail, wait=wait)

    def commands(self, run: str | None = None, *, before: int | None = None, limit: int = 100) -> CommandPage:
        """Commands, newest first."""
        return self._get("/api/v1/commands", CommandPage, run=run, before=before, limit=limit)

    def audit(
        self, run: str | None = None, *, author: str | None = None, before: int | None = None, limit: int = 100
    ) -> AuditPage:
        """Who wanted what, when, and what came of it, newest first."""
        return self._get("/api/v1/audit", AuditPage, run=run, author=author, before=before, limit=limit)

    # Runs

    def runs(self) -> RunList:
        """All runs, those with the newest events first."""
        return self._get("/api/v1/runs", RunList)

    def run(self, run: str) -> RunDetail:
        """Everything about one run."""
        return self._get(f"/api/v1/runs/{run}", RunDetail)

    def model(self, run: str) -> ModelTree:
        """The model's layers."""
        return self._get(f"/api/v1/runs/{run}/model", ModelTree)

    def desired(self, run: str) -> Desired:
        """What people want of the run."""
        return self._get(f"/api/v1/runs/{run}/desired", Desired)

    def want(self, run: str, state: DesiredState, note: str = "") -> Desired:
        """Want something else of the run (`stovetop start` wants it running)."""
        return self._post(f"/api/v1/runs/{run}/desired", NewDesired(state=state, note=note), Desired)

    def series(
        self,
        run: str,
        metrics: Sequence[str] = (),
        *,
        branches: Sequence[str] = (),
        points: int = 1000,
        lineage: bool = False,
    ) -> SeriesPage:
        """Metrics by step, of every branch and name unless some are named."""
        path = f"/api/v1/runs/{run}/metrics/series"
        return self._get(path, SeriesPage, metric=list(metrics), branch=list(branches), points=points, lineage=lineage)

    def compare(
        self, runs: Sequence[str], metrics: Sequence[str] = (), *, points: int = 1000, lineage: bool = False
    ) -> Comparison:
        """The same metrics of several runs."""
        path = "/api/v1/metrics/series"
        return self._get(path, Comparison, run=list(runs), metric=list(metrics), points=points, lineage=lineage)

    def versions(self, run: str | None = None) -> VersionList:
        """Versions of the weights and the channels."""
        return self._get("/api/v1/versions", VersionList, run=run)

    def followers(self, run: str | None = None) -> FollowerList:
        """Servers that follow the weights."""
        return self._get("/api/v1/followers", FollowerList, run=run)

    # Events

    def history(
        self,
        since: int = 0,
        *,
        run: str | None = None,
        types: Sequence[EventType] = (),
        limit: int = 500,
    ) -> EventPage:
        """One page of events of a number above `since`."""
        return self._get(
            "/api/v1/events", EventPage, since=since, run=run, type=[kind.value for kind in types], limit=limit
        )

    def events(
        self,
        since: int | None = None,
        *,
        run: str | None = None,
        types: Sequence[EventType] = (),
        reconnect: bool = True,
        idle: float | None = None,
    ) -> Iterator[Event]:
        """Events of a number above `since` (None: from now on), then new ones as they happen, each once.

        Connects again by itself where it was, for ever unless `reconnect` is off. With `idle`, it ends after so many
        seconds without an event.
        """
        pause = FIRST_PAUSE
        while True:
            asked: dict[str, Any] = {"since": since, "run": run, "type": [kind.value for kind in types]}
            params = httpx.QueryParams({key: value for key, value in asked.items() if value is not None})
            address = f"{self.url.replace('http', 'ws', 1)}/api/v1/events?{params}"
            try:
                headers = {"Authorization": f"Bearer {self._token}"}
                with connect(
                    address, additional_headers=headers, proxy=None, max_size=64 << 20, close_timeout=1
                ) as socket:
                    while True:
                        message = WATCHED.validate_json(socket.recv(timeout=idle))
                        pause = FIRST_PAUSE
                        if isinstance(message, WatchWelcome):
                            since = message.last if since is None else min(since, message.last)
                            continue
                        for event in message.events:
                            since = event.seq
                            yield event
                        since = message.last
            except InvalidStatus as error:
                text = error.response.body.decode(errors="replace")
                raise _refusal(error.response.status_code, text, address) from error
            except TimeoutError:
                if idle is not None:
                    return
            except (ConnectionClosed, WebSocketException, OSError) as error:
                if not reconnect:
                    raise ServerUnreachable(f"{self.url}: the stream of events was lost ({error})") from error
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    def report(self, *events: ReportedEvent) -> ReportAccepted:
        """Say what happened, without a connection."""
        return self._post("/api/v1/report", NewReport(events=events), ReportAccepted)

    def show_samples(self, run: str, version: int, pictures: Mapping[str, bytes]) -> SampleList:
        """Show what a version paints: PNG files by what they show, in place of those that it had."""
        samples = tuple(NewSample(label=label, png=b64encode(png)) for label, png in pictures.items())
        path = f"/api/v1/runs/{run}/versions/{version}/samples"
        return self._send("PUT", path, NewSamples(samples=samples), SampleList)

    def sample(self, sha256: str) -> bytes:
        """One picture, as a PNG file."""
        return self._answer(self._http.build_request("GET", f"/api/v1/samples/{sha256}")).content

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str, answer: type[Answer], **params: Any) -> Answer:
        given = {key: value for key, value in params.items() if value is not None}
        timeout = self._http.timeout.read or 0.0
        return self._ask(
            self._http.build_request("GET", path, params=given, timeout=timeout + given.get("wait", 0.0)), answer
        )

    def _post(self, path: str, content: BaseModel, answer: type[Answer]) -> Answer:
        return self._send("POST", path, content, answer)

    def _send(self, method: str, path: str, content: BaseModel, answer: type[Answer]) -> Answer:
        headers = {"Content-Type": "application/json"}
        return self._ask(
            self._http.build_request(method, path, content=content.model_dump_json(), headers=headers), answer
        )

    def _ask(self, request: httpx.Request, answer: type[Answer]) -> Answer:
        return answer.model_validate_json(self._answer(request).content)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._http.send(request)
        except httpx.TransportError as error:
            raise ServerUnreachable(f"{self.url}: no answer ({error}); is the control server running?") from error
        if response.is_error:
            raise _refusal(response.status_code, response.text, str(request.url))
        return response


def _refusal(status: int, text: str, address: str) -> Refused:
    problem: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        problem = TypeAdapter(dict[str, Any]).validate_json(text)
    said = problem.get("detail") or problem.get("title") or text[:300]
    return Refused(f"{address}: {status} {said}", status, str(problem.get("type", "about:blank")))
