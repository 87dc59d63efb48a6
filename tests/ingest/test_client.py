"""The clients: what they send and when, what they do when the gateway is slow, away, or says no."""

from __future__ import annotations

import asyncio
import email.utils
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.async_client import AsyncSessionClient
from ingest.client import SessionClient
from ingest.conversation import ClientSettings, Conversation, Request
from ingest.errors import BufferFull, ClientError, NotDurable, Refused, SessionLost, StepTooLarge
from ingest.types import SessionOpened, StepsAppended
from tests.ingest.gateways import INGEST, READ, RunningGateway, running, seqs, shape, stored
from tests.waiting import until

QUICK = ClientSettings(max_delay=0.01, first_pause=0.01, longest_pause=0.05)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("gateway")) as it:
        yield it


# --- against a real gateway ------------------------------------------------------------------------------------------


def test_steps_that_the_gateway_takes_with_a_fault_are_told(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"properties":{"inputs":{"properties":{"x":{"maximum":2}}}}}')
    with running(tmp_path, schemas={"desktop": str(tmp_path / "schema.json")}) as gateway:
        with SessionClient(gateway.url, INGEST, "desktop", settings=QUICK) as session:
            for number in range(5):
                session.post({"x": number})
        assert [(seq, fault.reason, fault.pointer, fault.schema) for seq, fault in session.rejected] == [
            (3, "maximum", "/inputs/x", "desktop/1"),
            (4, "maximum", "/inputs/x", "desktop/1"),
        ]
        assert seqs(gateway.log, session.session_id) == list(range(5))


def test_a_session_is_posted_and_ended(gateway: RunningGateway) -> None:
    with SessionClient(gateway.url, INGEST, "desktop", metadata={"fps": 15}, settings=QUICK) as session:
        for number in range(200):
            members = {"png": b"frame%d" % number} if number % 2 else {}
            seq = session.post({"x": number}, members=members, is_reset=number == 0, model_version="7", extra={"a": 1})
            assert seq == number
        session.flush()
        assert session.durable_through == 199
    opened, *middle, _ = stored(gateway.log, session.session_id)
    assert isinstance(opened, SessionOpened)
    assert opened.metadata == {"fps": 15}
    found = [step for record in middle if isinstance(record, StepsAppended) for step in record.steps]
    assert [step.seq for step in found] == list(range(200))
    assert [step.inputs for step in found] == [{"x": number} for number in range(200)]
    assert found[3].members == {"png": b"frame3"}
    assert (found[0].is_reset, found[1].is_reset, found[1].extra, found[1].model_version) == (
        True,
        False,
        {"a": 1},
        "7",
    )
    assert abs(found[0].time - time.time()) < 60
    assert shape(gateway.log, session.session_id)[-1] == "ended:client"
    assert not [thread for thread in threading.enumerate() if thread.name == f"session-{session.session_id}"]


def test_many_asynchronous_sessions_share_one_pool(gateway: RunningGateway) -> None:
    async def visit(http: httpx.AsyncClient, number: int) -> str:
        async with AsyncSessionClient(gateway.url, INGEST, "desktop", settings=QUICK, http=http) as session:
            for _ in range(number):
                await session.post({"x": 1})
            await session.flush()
            assert session.durable_through == number - 1
            return session.session_id

    async def visits() -> list[str]:
        async with httpx.AsyncClient() as http:
            return await asyncio.gather(*(visit(http, number) for number in range(8)))

    for number, session_id in enumerate(asyncio.run(visits())):
        assert seqs(gateway.log, session_id) == list(range(number))
        assert shape(gateway.log, session_id)[-1] == "ended:client"


def test_posting_needs_no_open_and_the_last_step_may_end_the_session(gateway: RunningGateway) -> None:
    session = SessionClient(gateway.url, INGEST, "desktop", settings=QUICK)
    session.post({"x": 1})
    session.post(is_eos=True)
    with pytest.raises(ClientError, match="was ended"):
        session.post({"x": 2})
    session.end()
    session.close()
    assert shape(gateway.log, session.session_id)[-1] == "ended:eos"
    with pytest.raises(ClientError, match="closed"):
        session.flush()


def test_a_session_is_resumed_where_it_was_left(gateway: RunningGateway) -> None:
    first = SessionClient(gateway.url, INGEST, "desktop", session_id="resumed-1", resume=True, settings=QUICK)
    first.post({"x": 0})
    first.post({"x": 1})
    first.flush()
    first.close()
    second = SessionClient(gateway.url, INGEST, "desktop", session_id="resumed-1", resume=True, settings=QUICK)
    second.open()
    assert second.next_seq == 2
    second.post({"x": 2})
    second.end()
    second.close()
    assert seqs(gateway.log, "resumed-1") == [0, 1, 2]
    third = SessionClient(gateway.url, INGEST, "desktop", session_id="resumed-1", resume=True, settings=QUICK)
    with pytest.raises(Refused, match="session-closed"):
        third.open()
    third.close()


def test_steps_that_were_posted_before_a_resume_are_not_mixed_in(gateway: RunningGateway) -> None:
    gateway.open("resumed-2")
    gateway.post("resumed-2", [{"seq": 0, "time": 1}])
    session = SessionClient(gateway.url, INGEST, "desktop", session_id="resumed-2", resume=True, settings=QUICK)
    session.post({"x": 1})
    with pytest.raises(Refused, match="before the first post"):
        session.flush()
    session.close()


def test_an_exception_of_the_app_still_ends_the_session_and_passes(gateway: RunningGateway) -> None:
    session = SessionClient(gateway.url, INGEST, "desktop", settings=QUICK)

    def crash() -> None:
        with session:
            session.post({"x": 1})
            raise KeyError("the app's own")

    with pytest.raises(KeyError, match="the app's own"):
        crash()
    assert shape(gateway.log, session.session_id) == ["opened", "steps", "ended:client"]


def test_a_refusal_is_raised_by_the_next_call(gateway: RunningGateway) -> None:
    session = SessionClient(gateway.url, READ, "desktop", settings=QUICK)
    with pytest.raises(Refused, match="403 insufficient-scope") as raised:
        session.open()
    assert (raised.value.status, raised.value.problem) == (403, "insufficient-scope")
    with pytest.raises(Refused):
        session.post({"x": 1})
    assert session.failure is raised.value
    session.close()


def test_a_session_that_was_ended_elsewhere_is_a_refusal(gateway: RunningGateway) -> None:
    session = SessionClient(gateway.url, INGEST, "desktop", settings=QUICK)
    session.open()
    gateway.http.post(f"/v1/sessions/{session.session_id}/end")
    session.post({"x": 1})
    with pytest.raises(Refused, match="session-closed"):
        session.flush()
    session.close()


def test_large_steps_travel_alone_and_too_large_ones_not_at_all(gateway: RunningGateway) -> None:
    with SessionClient(gateway.url, INGEST, "desktop", settings=QUICK) as session:
        for _ in range(5):
            session.post(members={"npy": bytes(800_000)})
        with pytest.raises(StepTooLarge, match="900000"):
            session.post(members={"npy": bytes(900_001)})
        session.flush()
    assert seqs(gateway.log, session.session_id) == list(range(5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"members": {"PNG": b""}},
        {"members": {"json": b"{}"}},
        {"members": {"a/b": b""}},
        {"extra": {"seq": 3}},
        {"extra": {"is_eos": True}},
    ],
)
def test_what_the_gateway_would_not_take_is_refused_at_once(gateway: RunningGateway, wrong: dict[str, Any]) -> None:
    session = SessionClient(gateway.url, INGEST, "desktop", settings=QUICK)
    with pytest.raises(ValueError, match=r"members|extra"):
        session.post({"x": 1}, **wrong)
    assert session.next_seq == 0
    session.close()
    with pytest.raises(ValueError, match="must begin with http"):
        SessionClient("127.0.0.1:7070", INGEST, "desktop")


def test_a_token_that_cannot_be_sent_is_told_not_waited_for(gateway: RunningGateway) -> None:
    session = SessionClient(gateway.url, "wörong ☃", "desktop", settings=QUICK)
    with pytest.raises(ClientError, match=r"cannot send at all|invalid-token"):
        session.open(timeout=5)
    session.close()


# --- a line that fails -----------------------------------------------------------------------------------------------


class BadLine:
    """A TCP line to a gateway that breaks at random: before the request is through, or before its answer is."""

    def __init__(self, port: int, seed: int) -> None:
        self._port, self._random = port, random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                if self._random.random() < 0.15:
                    sink.sendall(data[: self._random.randrange(len(data))])
                    self.broken += 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            with_suppressed(lambda each=each: each.shutdown(socket.SHUT_RDWR))  # type: ignore[misc]
            each.close()


def with_suppressed(call: Callable[[], object]) -> None:
    try:
        call()
    except OSError:
        return


def test_over_a_line_that_breaks_every_step_arrives_once(gateway: RunningGateway) -> None:
    line = BadLine(int(gateway.url.rpartition(":")[2]), seed=7)
    quick = ClientSettings(batch_steps=5, max_delay=0.001, first_pause=0.001, longest_pause=0.01)
    session = SessionClient(line.url, INGEST, "desktop", settings=quick)
    for number in range(300):
        session.post({"n": number}, members={"png": bytes(number % 7)})
        time.sleep(0.0005)  # the pace of the load
    session.end(timeout=60)
    session.close()
    line.close()
    assert line.broken > 5
    assert seqs(gateway.log, session.session_id) == list(range(300))
    assert shape(gateway.log, session.session_id)[-1] == "ended:client"


def test_while_the_gateway_is_away_steps_wait_within_bounds(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    small = ClientSettings(max_delay=0.01, first_pause=0.01, longest_pause=0.05, buffer_bytes=20_000)
    session = SessionClient(f"http://127.0.0.1:{port}", INGEST, "desktop", settings=small)
    with pytest.raises(NotDurable, match="open took longer"):
        session.open(timeout=0.1)

    def post_on() -> None:
        while True:
            session.post({"n": session.next_seq})

    with pytest.raises(BufferFull, match="exceed 20000"):
        post_on()
    posted = session.next_seq
    assert 0 < posted < 30
    with pytest.raises(NotDurable, match=f"{posted} steps wait"):
        session.flush(timeout=0.1)
    with running(tmp_path, port=port) as gateway:
        session.post({"n": posted}, timeout=20)  # waits for room
        session.end()
        session.close()
        assert seqs(gateway.log, session.session_id) == list(range(posted + 1))


# --- a gateway that answers as it is told ----------------------------------------------------------------------------


class Scripted(BaseHTTPRequestHandler):
    """Answers from a script, then as a gateway that takes everything; keeps what it was sent."""

    script: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    seen: ClassVar[list[tuple[float, str, bytes]]] = []
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((time.monotonic(), self.path, body))
        taken = int(self.headers.get("Ingest-First-Seq", 0)) + body.count(b"\n")
        good = {"next_seq": taken, "state": "ended" if self.path.endswith("/end") else "open"}
        status, headers, reply = self.script.pop(0) if self.script else (200, {}, msgspec.json.encode(good))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(reply))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[str]:
    Scripted.script, Scripted.seen = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _opened(url: str) -> SessionClient:
    session = SessionClient(url, INGEST, "desktop", settings=QUICK)
    session.open()
    Scripted.seen.clear()
    return session


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_succeed_later_is_sent_again_as_the_same_bytes(scripted: str, status: int) -> None:
    session = _opened(scripted)
    Scripted.script = [(status, {}, b"<html>not even json</html>")] * 3
    session.post({"x": 1})
    session.flush()
    session.post({"x": 2})
    session.flush()
    session.close()
    bodies = [body for _, _, body in Scripted.seen]
    assert len(bodies) == 5
    assert len(set(bodies[:4])) == 1
    assert bodies[4] != bodies[0]


def test_retry_after_is_honoured_in_seconds_and_as_a_date(scripted: str) -> None:
    session = _opened(scripted)
    date = email.utils.formatdate(time.time() + 3, usegmt=True)
    named = email.utils.parsedate_to_datetime(date).timestamp() - time.time() + time.monotonic()
    Scripted.script = [(503, {"Retry-After": "1"}, b"{}"), (429, {"Retry-After": date}, b"{}"), (503, {}, b"{}")]
    session.post({"x": 1})
    session.flush()
    session.close()
    times = [at for at, _, _ in Scripted.seen]
    first, _, third = (after - before for before, after in itertools.pairwise(times))
    assert first >= 1.0
    assert times[2] >= named - 0.01, "the two clocks may differ a little"
    assert third < first


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 410, 413, 415, 422])
def test_what_will_never_succeed_is_raised_at_once(scripted: str, status: int) -> None:
    session = _opened(scripted)
    problem = {"type": "urn:stovetop:problem:some-reason", "detail": "because"}
    Scripted.script = [(status, {}, msgspec.json.encode(problem))]
    session.post({"x": 1})
    with pytest.raises(Refused, match=f"{status} some-reason.*because"):
        session.flush()
    session.close()
    assert len(Scripted.seen) == 1


def test_a_gateway_that_forgot_acknowledged_steps_is_found_out(scripted: str) -> None:
    session = _opened(scripted)
    session.post({"x": 1})
    session.flush()
    gap = {"type": "urn:stovetop:problem:sequence-gap", "detail": "goes on at seq 0", "expected_seq": 0}
    Scripted.script = [(409, {}, msgspec.json.encode(gap))]
    session.post({"x": 2})
    with pytest.raises(SessionLost, match="1 steps were acknowledged"):
        session.flush()
    session.close()


def test_steps_share_a_request_for_a_moment_or_until_it_is_full(scripted: str) -> None:
    slow = ClientSettings(batch_steps=10, max_delay=0.3)
    session = SessionClient(scripted, INGEST, "desktop", settings=slow)
    session.open()
    Scripted.seen.clear()
    started = time.monotonic()
    for number in range(3):
        session.post({"x": number})
    until(lambda: session.durable_through == 2, "the moment passes")
    assert time.monotonic() - started >= 0.3
    session.close()
    patient = SessionClient(scripted, INGEST, "desktop", settings=ClientSettings(batch_steps=10, max_delay=600.0))
    patient.open()
    for number in range(25):
        patient.post({"x": number})
    until(lambda: patient.durable_through == 19, "full requests do not wait")
    patient.flush()
    patient.close()
    assert [body.count(b"\n") for _, path, body in Scripted.seen if path.endswith("/steps")] == [3, 10, 10, 5]


# --- the conversation alone ------------------------------------------------------------------------------------------


Event = tuple[str, int]


@given(
    st.lists(st.tuples(st.sampled_from(["post", "lost", "unheard", "busy", "fine"]), st.integers(1, 6)), max_size=60),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_network_does_every_step_is_taken_once_and_in_order(script: list[Event], members: bool) -> None:
    talk = Conversation("session-1", "desktop", {}, False, ClientSettings(batch_steps=4, first_pause=0.01))
    server = _Server()
    now = 0.0

    def exchange(fate: str) -> None:
        nonlocal now
        action = talk.next_action(now)
        if isinstance(action, float):
            now += min(action, 1.0)
            return
        if action is None:
            return
        if fate == "busy":
            talk.replied(action, 503, {"retry-after": "1"}, b"", now)
        elif fate == "lost":
            talk.failed(now)
        else:
            reply = server.take(action)
            if fate == "unheard":
                talk.failed(now)
            else:
                talk.replied(action, 200, {}, msgspec.json.encode(reply), now)

    for name, count in script:
        if name == "post":
            for _ in range(count):
                talk.add({"time": 1.0}, {"png": b"x"} if members else {}, now)
        else:
            exchange(name)
    talk.finish()
    for _ in range(500):
        if talk.ended:
            break
        exchange("fine")
    assert talk.ended
    assert talk.failure is None
    assert server.taken == list(range(talk.next_seq))
    assert talk.acked == talk.next_seq


class _Server:
    """The gateway's rule in a few lines."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.ended = False

    def take(self, request: Request) -> dict[str, Any]:
        first = request.headers.get("Ingest-First-Seq")
        if first is not None:
            assert int(first) <= len(self.taken), "a gap"
            marker = b'{"seq":'
            sent = [int(part.split(b",")[0]) for part in request.body.split(marker)[1:]]
            assert sent == list(range(int(first), int(first) + len(sent)))
            self.taken += [seq for seq in sent if seq >= len(self.taken)]
        if request.path.endswith("/end"):
            assert msgspec.json.decode(request.body)["next_seq"] == len(self.taken)
            self.ended = True
        return {"next_seq": len(self.taken), "state": "ended" if self.ended else "open"}
