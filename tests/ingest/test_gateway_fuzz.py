"""Thousands of bodies and messages that nobody should send: each is answered, none with a 5xx, and nothing is lost."""

from __future__ import annotations

import gzip
import json
import random
import socket
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
import zstandard
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ingest.gateway.frames import pack_frame
from ingest.sqlite import SqliteLog
from tests.ingest.conftest import Run
from tests.ingest.gateways import INGEST, running, seqs, step, steps, stored, tar, tokens_in
from tests.ingest.sockets import SocketClient, socket_url

SHORT, LONG = (1_700, 300), (70_000, 30_000)
"""Bodies and messages."""
SEED = 20_251_123
ALLOWED_GROWTH = 200 << 20
FRAMES = 30
"""Messages on one connection."""

KINDS = ("json", "a")
TAR, LINES = "application/x-tar", "application/x-ndjson"
LIMITS = {"max_body_bytes": 100_000, "max_step_bytes": 50_000, "max_session_bytes": 1_000_000}
ODD = [
    b"",
    b"\n" * 5_000,
    b"{}",
    b"[]",
    b"null",
    b"0",
    b'"',
    b"-" * 50,
    b"1e",
    b"{" * 3_000,
    b"[" * 3_000,
    b'{"a":' * 2_000,
    bytes(5_000),
    b"\xff" * 100,
    b"\xef\xbb\xbf{}",
    b'{"seq":0,"time":1e400}',
    b'{"seq":0,"time":' + b"9" * 5_000 + b"}",
    b'{"seq":0,"time":1,"inputs":{"a":' + b"1" * 400 + b"}}",
    b'{"seq":0,"time":1,"inputs":{"\\u0000":"\\ud83d\\ude00"}}',
    b'{"seq":0.0,"time":1}',
    b'{"seq":-0,"time":-0.0}',
    b'{"seq":1e0,"time":1}',
    b'{"seq":0,"seq":1,"time":1}',
]
START = f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {INGEST}\r\n".encode()
ODD_HTTP = [
    b"",
    bytes(100),
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01" + bytes(200),
    START + b"Content-Length: -1\r\n\r\n",
    START + b"Content-Length: 1e3\r\n\r\n{}",
    START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    START + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    START + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    START + b"Ingest-First-Seq: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
]
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": lambda body: zstandard.ZstdCompressor().compress(body),
}


def _mutated(random_: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(random_.randint(1, 6)):
        place = random_.randrange(len(data) + 1)
        match random_.randrange(5):
            case 0:
                data[place : place + random_.randint(0, 40)] = b""
            case 1:
                data[place:place] = random_.randbytes(random_.randint(1, 40))
            case 2:
                data[place : place + 1] = random_.randbytes(1)
            case 3:
                data[place:place] = data[: random_.randint(0, 600)]
            case _:
                data[place:] = b""
    return bytes(data)


class Fuzz:
    """One session that good steps are posted to while everything else is tried on it, and on whole sessions."""

    def __init__(self, url: str, session_id: str, seed: int) -> None:
        self.url, self.session_id = url, session_id
        self.statuses: Counter[int] = Counter()
        self.answers: Counter[str] = Counter()
        self.acked = 0
        self._random = random.Random(seed)
        self._line = HTTPConnection(url.removeprefix("http://"), timeout=30)  # a third of the time that httpx takes
        self._whole = 0
        self._good = {
            LINES: b"\n".join(map(msgspec.json.encode, steps(0, 4))),
            TAR: tar({f"{seq:06d}.{kind}": msgspec.json.encode(step(seq)) for seq in range(4) for kind in KINDS}),
        }

    def bodies(self, count: int) -> None:
        """Send so many bodies; now and then a good one, which must be taken."""
        for number in range(count):
            if number % 50 == 0:
                self.post_good()
            elif number % 7 == 0:
                self._put()
            else:
                self._post()
        self._line.close()

    def post_good(self) -> None:
        body = b"".join(msgspec.json.encode(step(seq)) + b"\n" for seq in range(self.acked, self.acked + 2))
        status, reply = self._send("POST", f"/v1/sessions/{self.session_id}/steps", body, LINES, str(self.acked))
        if status == 409 or status == 410:  # a mutated body was a step after all
            self.acked = json.loads(reply).get("expected_seq") or json.loads(reply).get("next_seq") or self.acked
            self.acked = httpx.get(f"{self.url}/v1/sessions/{self.session_id}", headers=_token()).json()["next_seq"]
            return
        assert status == 200, reply
        self.acked = json.loads(reply)["next_seq"]

    def frames(self, count: int) -> None:
        """Send so many messages over sockets, each of which is answered or ends its connection with a reason."""
        sent = 0
        while sent < count:
            with connect(
                socket_url(self.url, self.session_id), additional_headers=_token(), compression=None, proxy=None
            ) as connection:
                client = SocketClient(connection)
                client.hello()
                try:
                    for _ in range(FRAMES):
                        sent += 1
                        self._frame(client)
                except ConnectionClosed as closed:
                    self.answers[str(closed.rcvd.code if closed.rcvd else "broken off")] += 1
        assert self.answers.keys() <= {"ack", "nack", "1002", "1003", "1007", "1008", "1009"}, self.answers

    def _frame(self, client: SocketClient) -> None:
        kind = self._random.random()
        if kind < 0.02:
            client.connection.send(self._random.choice(["", "{", "[]", '{"type":"x"}', '{"type":"want","bytes":-5}']))
        if kind < 0.01:
            return
        good = pack_frame(0, msgspec.json.encode(step(0)), {"png": b"\x89PNG" * 9})
        odd = self._random.choice(ODD)
        frame = pack_frame(0, odd) if kind < 0.1 else odd if kind < 0.15 else _mutated(self._random, good)
        client.send_frame(frame)
        while client.next()["type"] not in ("ack", "nack"):
            pass
        self.answers[client.told[-1]["type"]] += 1

    def _post(self) -> None:
        media_type = self._random.choice([LINES, TAR])
        first = str(self._random.choice([0, 0, 0, 1, 3]))
        self._send("POST", f"/v1/sessions/{self.session_id}/steps", self._body(media_type), media_type, first)

    def _put(self) -> None:
        self._whole += 1
        opening = tar({"session.json": b'{"app":"desktop"}'})[:-1024]
        body = self._body(TAR, opening)
        self._send("PUT", f"/v1/sessions/fuzz-whole-{self._whole:06d}", body, TAR, None)

    def _body(self, media_type: str, before: bytes = b"") -> bytes:
        if self._random.random() < 0.1:
            return before + self._random.choice(ODD)
        return _mutated(self._random, before + self._good[media_type])

    def _send(self, method: str, path: str, body: bytes, media_type: str, first: str | None) -> tuple[int, bytes]:
        headers = {**_token(), "Content-Type": media_type}
        if first is not None:
            headers["Ingest-First-Seq"] = first
        encoding = self._random.choice(["gzip", "zstd"]) if self._random.random() < 0.1 else None
        if encoding is not None:
            headers["Content-Encoding"] = encoding
            body = ENCODERS[encoding](body)
            body = _mutated(self._random, body) if method == "PUT" else body
        self._line.request(method, path, body, headers)
        reply = self._line.getresponse()
        text = reply.read()
        assert reply.status < 500, (text, body)
        self.statuses[reply.status] += 1
        return reply.status, text


def test_no_body_and_no_message_makes_the_gateway_fail(tmp_path: Path) -> None:
    with running(tmp_path, **LIMITS) as gateway:
        bodies, frames = SHORT
        fuzz = Fuzz(gateway.url, gateway.open(), SEED)
        fuzz.bodies(bodies)
        fuzz.frames(frames)
        _nothing_is_lost(gateway.log, fuzz)  # type: ignore[arg-type]
        assert fuzz.statuses[400] > bodies / 2, fuzz.statuses
        assert fuzz.answers["nack"] > frames / 2, fuzz.answers
        for body in ODD:
            for path in ("/v1/sessions", f"/v1/sessions/{fuzz.session_id}/end", "/v1/tokens"):
                if body not in (b"", b"{}") or path != f"/v1/sessions/{fuzz.session_id}/end":
                    assert 400 <= gateway.http.post(path, content=body).status_code < 500, body


@pytest.mark.soak
def test_a_hundred_thousand_of_them_take_no_memory_either(tmp_path: Path, run_program: Run) -> None:
    tokens_in(tmp_path)
    process = run_program("run_gateway", tmp_path, json.dumps({"port": 0, **LIMITS}))
    assert process.stdout is not None
    url = f"http://127.0.0.1:{int(process.stdout.readline())}"
    session_id = httpx.post(f"{url}/v1/sessions", json={"app": "desktop"}, headers=_token()).json()["session_id"]
    resident, rounds = psutil.Process(process.pid).memory_info, 20
    before, peak = resident().rss, 0
    fuzz = Fuzz(url, session_id, SEED + 1)
    for _ in range(rounds):
        fuzz.bodies(LONG[0] // rounds)
        fuzz.frames(LONG[1] // rounds)
        peak = max(peak, resident().rss)
    print(f"answers {fuzz.statuses} {fuzz.answers}; {(peak - before) / 1e6:.0f} MB grown")
    assert peak - before < ALLOWED_GROWTH
    assert httpx.get(f"{url}/readyz").json() == {"ready": True}
    _nothing_is_lost(SqliteLog(tmp_path / "log"), fuzz)


def _nothing_is_lost(log: SqliteLog, fuzz: Fuzz) -> None:
    fuzz.post_good()
    found = seqs(log, fuzz.session_id)
    assert found == list(range(len(found)))
    assert len(found) >= fuzz.acked > 20
    assert stored(log)
    known = httpx.get(f"{fuzz.url}/v1/sessions/{fuzz.session_id}", headers=_token()).json()
    assert (known["state"], known["next_seq"]) == ("open", len(found))


def _token() -> dict[str, str]:
    return {"Authorization": f"Bearer {INGEST}"}


def test_what_is_not_http_does_not_hurt_either(tmp_path: Path) -> None:
    random_ = random.Random(SEED)
    with running(tmp_path) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        for body in [*ODD_HTTP, *(random_.randbytes(random_.randint(1, 300)) for _ in range(100))]:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(body)
                connection.shutdown(socket.SHUT_WR)
                reply = connection.recv(65_536)
            assert not reply.startswith(b"HTTP/1.1 5"), (body, reply)
        assert httpx.get(f"{gateway.url}/readyz").json() == {"ready": True}
