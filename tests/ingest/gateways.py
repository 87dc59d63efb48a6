"""Real gateways for tests, in a thread of this process, and the requests that tests make of them."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from auth.tokens import Scope, TokenStore
from ingest.certificates import TrainedOn
from ingest.gateway import serve_gateway
from ingest.log import Log
from ingest.settings import GatewaySettings
from ingest.sqlite import SqliteLog
from ingest.types import SessionEnded, SessionOpened, SessionRecord, StepsAppended
from ingest.ustar import Member, archive
from tests.waiting import until

INGEST, READ = "secret-of-ingest", "secret-of-read"
DEADLINE = 60.0

records = msgspec.msgpack.Decoder(SessionRecord)


class RunningGateway:
    """A gateway that serves, and an HTTP client with its ingest token."""

    def __init__(self, url: str, log: Log) -> None:
        self.url, self.log = url, log
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {INGEST}"}, timeout=DEADLINE)
        self.bare = httpx.Client(base_url=url, timeout=DEADLINE)

    def open(self, session_id: str | None = None, **fields: Any) -> str:
        body = {"app": "desktop", **fields, **({"session_id": session_id} if session_id else {})}
        reply = self.http.post("/v1/sessions", json=body)
        assert reply.status_code == 201, reply.text
        opened: str = reply.json()["session_id"]
        return opened

    def post(
        self, session_id: str, steps: Sequence[Any], first_seq: int | None = None, **headers: str
    ) -> httpx.Response:
        first = int(steps[0]["seq"]) if first_seq is None else first_seq
        body = b"\n".join(json.dumps(each).encode() for each in steps)
        return self.post_body(session_id, body, first, **headers)

    def post_body(
        self, session_id: str, body: bytes, first_seq: int, media_type: str = "application/x-ndjson", **more: str
    ) -> httpx.Response:
        headers = {"Content-Type": media_type, "Ingest-First-Seq": str(first_seq), **more}
        return self.http.post(f"/v1/sessions/{session_id}/steps", content=body, headers=headers)


def await_ready(gateway: RunningGateway) -> RunningGateway:
    """Wait until it takes steps; on Kafka its shares have to be dealt first."""
    until(lambda: gateway.bare.get("/readyz").status_code == 200, "the gateway is ready")
    return gateway


def owned(gateway: RunningGateway, sessions: Sequence[str]) -> int:
    """How many of these sessions a gateway has itself, rather than one beside it."""
    headers = {"Stovetop-Forwarded": "1"}
    return sum(gateway.http.get(f"/v1/sessions/{each}", headers=headers).status_code == 200 for each in sessions)


@contextmanager
def running(
    folder: Path,
    *,
    log: Log | None = None,
    floor: Callable[[int], int] | None = None,
    trained_on: TrainedOn | None = None,
    **settings: Any,
) -> Iterator[RunningGateway]:
    """A gateway on a free port that keeps its log in `folder`; on leaving it must end cleanly."""
    log = log or SqliteLog(folder / "log")
    tokens = tokens_in(folder)
    bound: queue.Queue[int | BaseException] = queue.Queue()
    stop = threading.Event()

    def serve() -> None:
        try:
            serve_gateway(
                GatewaySettings(**{"port": 0, **settings}),
                tokens,
                log,
                floor=floor,
                spool=folder / "spool",
                announce=lambda host, port: bound.put(port),
                stop=stop,
                trained_on=trained_on,
            )
        except BaseException as error:
            bound.put(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        port = bound.get(timeout=DEADLINE)
        if isinstance(port, BaseException):
            raise port
        yield RunningGateway(f"http://127.0.0.1:{port}", log)
    finally:
        stop.set()
        thread.join(DEADLINE)
        assert not thread.is_alive(), "the gateway did not end"
    if not bound.empty():
        error = bound.get()
        assert isinstance(error, BaseException)
        raise error


def tokens_in(folder: Path) -> TokenStore:
    tokens = TokenStore(folder / "tokens.json")
    tokens.add("app", [Scope.INGEST], INGEST)
    tokens.add("eye", [Scope.READ], READ)
    return tokens


def step(seq: int, **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "time": 1_763_800_000.0 + seq, "inputs": {"x": seq % 32, "y": 7}, **fields}


def steps(first: int, end: int, **fields: Any) -> list[dict[str, Any]]:
    return [step(seq, **fields) for seq in range(first, end)]


def tar(files: Mapping[str, bytes]) -> bytes:
    return archive(Member(name, content) for name, content in files.items())


def stored(log: Log, session_id: str | None = None) -> list[SessionRecord]:
    """Everything in the log, in order of partition and offset; of one session where it is named."""
    reader, found = log.reader(), list[SessionRecord]()
    for partition in range(reader.partitions("steps")):
        offset = reader.bounds("steps", partition).start
        while (fetch := reader.fetch("steps", partition, offset)).records:
            found += [records.decode(record.value) for record in fetch.records if session_id in (None, record.key)]
            offset = fetch.next_offset
    reader.close()
    return found


def seqs(log: Log, session_id: str) -> list[int]:
    """The seqs of a session's steps as the log has them, in its order."""
    return [
        each.seq for record in stored(log, session_id) if isinstance(record, StepsAppended) for each in record.steps
    ]


def shape(log: Log, session_id: str) -> list[str]:
    """The kinds of a session's records, in order: opened, steps, ended:reason."""
    names: list[str] = []
    for record in stored(log, session_id):
        match record:
            case SessionOpened():
                names.append("opened")
            case StepsAppended():
                names.append("steps")
            case SessionEnded():
                names.append(f"ended:{record.reason}")
    return names
