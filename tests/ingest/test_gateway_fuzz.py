"""Thousands of bodies that nobody should send: each is answered with a 4xx or a 2xx, and the log stays readable."""

from __future__ import annotations

import random
import socket
from http.client import HTTPConnection
from pathlib import Path

import httpx
import msgspec

from tests.ingest.gateways import INGEST, running, seqs, step, steps, stored, tar

BODIES = 2_000
SEED = 20_251_123

KINDS = ("json", "a")
TAR, LINES = "application/x-tar", "application/x-ndjson"
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


def test_no_body_whatever_makes_the_gateway_fail(tmp_path: Path) -> None:
    random_ = random.Random(SEED)
    with running(tmp_path, max_body_bytes=100_000, max_step_bytes=50_000) as gateway:
        session_id = gateway.open()
        gateway.post(session_id, steps(0, 3))
        good = {
            LINES: b"\n".join(map(msgspec.json.encode, steps(0, 4))),
            TAR: tar(
                {f"{seq:06d}.{kind}": msgspec.json.encode(step(seq)) for seq in range(4) for kind in ("json", "a")}
            ),
        }
        statuses: dict[int, int] = {}
        line = HTTPConnection(gateway.url.removeprefix("http://"), timeout=20)  # a third of the time that httpx takes
        for _ in range(BODIES):
            media_type = random_.choice([LINES, TAR])
            body = random_.choice(ODD) if random_.random() < 0.1 else _mutated(random_, good[media_type])
            first = str(random_.choice([0, 0, 0, 1, 3]))
            headers = {"Authorization": f"Bearer {INGEST}", "Content-Type": media_type, "Ingest-First-Seq": first}
            line.request("POST", f"/v1/sessions/{session_id}/steps", body, headers)
            reply = line.getresponse()
            text = reply.read()
            assert reply.status < 500, (text, body)
            statuses[reply.status] = statuses.get(reply.status, 0) + 1
        for body in ODD:
            for path in ("/v1/sessions", f"/v1/sessions/{session_id}/end"):
                if body not in (b"", b"{}") or path == "/v1/sessions":
                    assert 400 <= gateway.http.post(path, content=body).status_code < 500, body
        line.close()
        assert statuses[400] > BODIES / 2, statuses
        found = seqs(gateway.log, session_id)
        assert found == list(range(len(found)))
        assert stored(gateway.log)
        assert gateway.http.get(f"/v1/sessions/{session_id}").json()["next_seq"] == len(found)


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
