"""Load for the gateway: prepared requests over plain sockets, so that the client costs as little as can be.

    python -m benchmarks.loads GATEWAYS TOKEN SIZE TOGETHER SEATS STEPS PACE
    python -m benchmarks.loads alone SERVERS TOPIC SIZE STEPS BATCH
    python -m benchmarks.loads answer

Each seat is a session with a connection of its own, and all steps show the same frame, which lies in memory once, as
the value of kafka-python's records does. It prints one JSON object: steps, seconds, and the seconds that each request
took. `alone` is kafka-python alone; `answer` a server that only reads and answers, whose rate is the client's own bound.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from typing import TypeAlias

from kafka import KafkaProducer

from ingest.shard_format import END, member_header, padding
from ingest.ustar import Member, archive, archived_size

Request: TypeAlias = list[bytes]

INFLIGHT = 64 << 20


def main() -> None:
    """Run one load."""
    if sys.argv[1] == "alone":
        servers, topic, size, steps, batch = sys.argv[2:]
        print(json.dumps(alone(servers, topic, int(size), int(steps), int(batch))))
        return
    if sys.argv[1] == "answer":
        answer()
        return
    gateways, token, size, together, seats, steps, pace = sys.argv[1:]
    load = Load(gateways.split(","), token, int(size), int(together), int(seats), int(steps), float(pace))
    print(json.dumps(load.run()))


def alone(servers: str, topic: str, size: int, steps: int, batch: int) -> dict[str, float]:
    """One record a step, idempotent and acknowledged by all, in batches of at most so many bytes."""
    producer = KafkaProducer(
        bootstrap_servers=servers,
        enable_idempotence=True,
        acks="all",
        batch_size=batch,
        linger_ms=5,
        max_request_size=max(4_000_000, 4 * batch + 100_000),
        max_in_flight_requests_per_connection=5,
    )
    producer.partitions_for(topic)
    value = b"x" * size
    flying = []
    began = time.perf_counter()
    most = max(16, INFLIGHT // size)
    for number in range(steps):
        flying.append(producer.send(topic, value, key=b"session", partition=number % 4))
        if len(flying) > most:
            flying[-most].get(60)
            flying = flying[-most + 1 :]
    for future in flying:
        future.get(60)
    seconds = time.perf_counter() - began
    producer.close(5)
    return {"steps": steps, "seconds": seconds}


class Load:
    """So many seats, each posting its share of the steps in order, as fast as they are acknowledged or at a pace.

    `pace` is in steps a second, of all seats together; 0: as fast as can be.
    """

    def __init__(
        self, gateways: Sequence[str], token: str, size: int, together: int, seats: int, steps: int, pace: float
    ) -> None:
        self._token, self._size, self._together, self._seats, self._pace = token, size, together, seats, pace
        self._gateways = gateways
        self._requests = max(1, steps // (together * seats))
        self.latencies: list[float] = []
        self._frame = bytes(size)
        self._frames: dict[int, bytes] = {}
        self._bodies: list[list[Request]] = [self._prepare(seat) for seat in range(seats)]

    def run(self) -> dict[str, object]:
        barrier = threading.Barrier(self._seats + 1)
        threads = [threading.Thread(target=self._sit, args=(seat, barrier)) for seat in range(self._seats)]
        for thread in threads:
            thread.start()
        barrier.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        steps = self._requests * self._together * self._seats
        return {"steps": steps, "seconds": seconds, "latencies": self.latencies}

    def _prepare(self, seat: int) -> list[Request]:
        gateway = self._gateways[seat % len(self._gateways)]
        request = urllib.request.Request(
            f"{gateway}/v1/sessions",
            data=b'{"app": "bench"}',
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            session = json.load(reply)["session_id"]
        return [self._request(session, number * self._together) for number in range(self._requests)]

    def _request(self, session: str, first: int) -> Request:
        """The pieces of a request, one after the other."""
        if self._size < 4_000:
            pad = "x" * (self._size - 80)
            lines = [
                json.dumps({"seq": seq, "time": 1.7e9, "inputs": {"x": 1, "y": 2, "p": pad}})
                for seq in self._seqs(first)
            ]
            body, kind = ["\n".join(lines).encode()], "application/x-ndjson"
        else:
            body, kind = self._tar(first), "application/x-tar"
        head = (
            f"POST /v1/sessions/{session}/steps HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: {kind}\r\nIngest-First-Seq: {first}\r\nContent-Length: {sum(map(len, body))}\r\n\r\n"
        )
        return [head.encode(), *body]

    def _tar(self, first: int) -> list[bytes]:
        pieces: list[bytes] = []
        before = b""
        for seq in self._seqs(first):
            text = json.dumps({"seq": seq, "time": 1.7e9, "inputs": {"x": 1, "y": 2}}).encode()
            frame = self._frame[: self._size - len(text)]
            if len(frame) not in self._frames:
                self._frames[len(frame)] = frame
            said = archive([Member(f"{seq:06d}.json", text)])[: archived_size(len(text))]
            pieces += (before + said + member_header(f"{seq:06d}.png", len(frame)), self._frames[len(frame)])
            before = padding(len(frame))
        return [*pieces, before + END]

    def _seqs(self, first: int) -> range:
        return range(first, first + self._together)

    def _sit(self, seat: int, barrier: threading.Barrier) -> None:
        host, port = self._gateways[seat % len(self._gateways)].removeprefix("http://").split(":")
        pause = self._seats * self._together / self._pace if self._pace else 0.0
        with socket.create_connection((host, int(port))) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            barrier.wait()
            due = time.perf_counter() + pause * seat / self._seats
            for request in self._bodies[seat]:
                if pause:
                    time.sleep(max(0.0, due - time.perf_counter()))
                began = due if pause else time.perf_counter()
                _send(connection, request)
                _reply(connection)
                self.latencies.append(time.perf_counter() - began)
                due += pause


def _send(connection: socket.socket, request: Request) -> None:
    sent = connection.sendmsg(request)
    if sent < sum(map(len, request)):
        connection.sendall(memoryview(b"".join(request))[sent:])


def answer() -> None:
    """Serve until the process is ended; prints the address. Reads requests and says that all is well."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        print(f"http://127.0.0.1:{server.getsockname()[1]}", flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    text = b'{"session_id": "any"}'
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
    room = memoryview(bytearray(1 << 20))
    with connection:
        while filled := connection.recv_into(room):
            while (end := bytes(room[: min(filled, 4096)]).find(b"\r\n\r\n")) < 0:
                filled += connection.recv_into(room[filled:])
            head = bytes(room[:end]).lower()
            left = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]) - (filled - end - 4)
            while left > 0:
                left -= connection.recv_into(room[: min(left, len(room))])
            connection.sendall(reply)


def _reply(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, rest = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the gateway refused: {received[:500]!r}")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    left = length - len(rest)
    while left > 0:
        left -= len(_more(connection))


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    if not data:
        raise SystemExit("the gateway hung up")
    return data


if __name__ == "__main__":
    main()
