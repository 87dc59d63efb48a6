"""Load for the gateway: prepared requests over plain sockets, so that the client costs as little as can be.

    python -m benchmarks.loads GATEWAYS TOKEN SIZE TOGETHER SEATS STEPS PACE

Each seat is a session with a connection of its own. It prints one JSON object: steps, seconds, and the seconds that
each request took. Also runs kafka-python alone (`python -m benchmarks.loads alone SERVERS TOPIC SIZE STEPS`).
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence

from kafka import KafkaProducer

from ingest.ustar import Member, archive

INFLIGHT = 64 << 20


def main() -> None:
    """Run one load."""
    if sys.argv[1] == "alone":
        servers, topic, size, steps = sys.argv[2:]
        print(json.dumps(alone(servers, topic, int(size), int(steps))))
        return
    gateways, token, size, together, seats, steps, pace = sys.argv[1:]
    load = Load(gateways.split(","), token, int(size), int(together), int(seats), int(steps), float(pace))
    print(json.dumps(load.run()))


def alone(servers: str, topic: str, size: int, steps: int) -> dict[str, float]:
    """One record a step, with the settings that suit such records best."""
    producer = KafkaProducer(
        bootstrap_servers=servers,
        enable_idempotence=True,
        acks="all",
        batch_size=900_000,
        linger_ms=5,
        max_request_size=4_000_000,
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
        self._bodies: list[list[bytes]] = [self._prepare(seat) for seat in range(seats)]

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

    def _prepare(self, seat: int) -> list[bytes]:
        gateway = self._gateways[seat % len(self._gateways)]
        request = urllib.request.Request(
            f"{gateway}/v1/sessions",
            data=b'{"app": "bench"}',
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            session = json.load(reply)["session_id"]
        return [self._request(session, number * self._together) for number in range(self._requests)]

    def _request(self, session: str, first: int) -> bytes:
        if self._size < 4_000:
            pad = "x" * (self._size - 80)
            lines = [
                json.dumps({"seq": seq, "time": 1.7e9, "inputs": {"x": 1, "y": 2, "p": pad}})
                for seq in self._seqs(first)
            ]
            body, kind = "\n".join(lines).encode(), "application/x-ndjson"
        else:
            members = []
            for seq in self._seqs(first):
                text = json.dumps({"seq": seq, "time": 1.7e9, "inputs": {"x": 1, "y": 2}}).encode()
                members += [Member(f"{seq:06d}.json", text), Member(f"{seq:06d}.png", bytes(self._size - len(text)))]
            body, kind = archive(members), "application/x-tar"
        head = (
            f"POST /v1/sessions/{session}/steps HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: {kind}\r\nIngest-First-Seq: {first}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

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
                connection.sendall(request)
                _reply(connection)
                self.latencies.append(time.perf_counter() - began)
                due += pause


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
