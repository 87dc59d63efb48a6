"""Visitors of the tiny desktop, with everything that visitors do: they click, pause, reset, send nonsense, send twice,
leave without a word. Each notes what it posted and what was acknowledged."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx

from examples.desktop.scripted import visitor_session
from examples.desktop.world import World
from ingest.client import SessionClient
from ingest.conversation import ClientSettings
from tests.system.reckoning import Sent
from tests.waiting import PATIENCE

CLIENT = ClientSettings(batch_steps=8, max_delay=0.01, first_pause=0.05, longest_pause=0.5)
APP = "thumbnail"
LONGEST = 60
"""Steps after which a visitor leaves."""

POISON = ({"x": -1, "y": 3}, {"x": 3}, {"x": 3, "y": 3, "is_left_click": "yes"}, {"x": 1, "y": 1, "keys_down": [""]})

Posted = tuple[Mapping[str, Any] | None, bool, Mapping[str, bytes]]


def one_visit(gateway: str, token: str, seed: int, steps: int = 40) -> str:
    """Let one visitor come, and wait until all it did is acknowledged; returns the session's id."""
    world, chance = World(), random.Random(seed)
    with SessionClient(gateway, token, APP) as session:
        while session.next_seq < steps:
            for inputs in visitor_session(world, chance):
                world.step(inputs)
                session.post(inputs.wire())
        session.flush()
        assert session.durable_through == session.next_seq - 1
        return session.session_id


class Crowd:
    """So many visitors at once, one after the other on each seat, while the block runs; at its end they finish.

    One seat is that of a program that sends everything twice. `faults` are visits that ended with an error.
    """

    def __init__(self, gateway: str, token: str, seats: int, seed: int, pace: float = 0.1) -> None:
        self.sent: list[Sent] = []
        self.faults: list[str] = []
        self._gateway, self._token, self._pace = gateway, token, pace
        self._stop = threading.Event()
        self._seats = [
            threading.Thread(target=self._seat, args=(seat, random.Random(f"{seed}/{seat}")), name=f"seat-{seat}")
            for seat in range(seats)
        ]

    def __enter__(self) -> Crowd:
        for seat in self._seats:
            seat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for seat in self._seats:
            seat.join(PATIENCE)

    @property
    def acked(self) -> int:
        """Steps that are acknowledged."""
        return sum(session.acked for session in list(self.sent))

    def all_is_well(self) -> None:
        """Every visit came to its end, and nothing that was taken was refused later."""
        assert not any(seat.is_alive() for seat in self._seats), "a visitor still waits for the gateway"
        assert not self.faults, self.faults[0]

    def _seat(self, seat: int, chance: random.Random) -> None:
        visit = self._visit_twice if seat == 0 else self._visit
        while not self._stop.is_set():
            try:
                visit(chance)
            except Exception as error:  # told by `all_is_well`
                self.faults.append(f"seat {seat}: {type(error).__name__}: {error}")
                return

    def _visit(self, chance: random.Random) -> None:
        client = SessionClient(self._gateway, self._token, APP, settings=CLIENT)
        session = Sent(client.session_id)
        self.sent.append(session)
        try:
            for inputs, is_reset, members in self._doings(chance):
                session.steps.append((inputs, is_reset, members))
                client.post(inputs, members=members, is_reset=is_reset, timeout=PATIENCE)
                session.acked = client.durable_through + 1
                time.sleep(chance.uniform(0.5, 1.5) * self._pace)
            way = chance.random()
            if way < 0.6:
                client.end(timeout=PATIENCE)
                session.ended = True
            elif way < 0.8:
                client.flush(timeout=PATIENCE)
        finally:
            session.acked = client.durable_through + 1
            client.close()  # in a fifth of the visits with steps under way

    def _visit_twice(self, chance: random.Random) -> None:
        """Post every batch twice, the second time with a step more, whatever the gateway answered."""
        with httpx.Client(
            base_url=self._gateway, headers={"Authorization": f"Bearer {self._token}"}, trust_env=False, timeout=10.0
        ) as http:
            name = f"twice-{chance.getrandbits(64):016x}"
            session = Sent(name)
            self.sent.append(session)
            _insist(http, "POST", "/v1/sessions", json={"session_id": name, "app": APP})
            todo = [step for step in self._doings(chance) if not step[2]]
            first = 0
            while first < len(todo):
                batch = todo[first : first + chance.randint(1, 4)]
                session.steps.extend(todo[len(session.steps) : first + len(batch) + 1])
                for content in (batch, batch, [*batch, *todo[first + len(batch) : first + len(batch) + 1]]):
                    session.acked = self._post(http, name, first, content)
                first = session.acked
                time.sleep(self._pace)
            _insist(http, "POST", f"/v1/sessions/{name}/end", json={"next_seq": session.acked})
            session.ended = True

    def _post(self, http: httpx.Client, name: str, first: int, steps: list[Posted]) -> int:
        lines = [
            json.dumps({"seq": first + place, "time": float(first + place), "inputs": inputs, "is_reset": is_reset})
            for place, (inputs, is_reset, _) in enumerate(steps)
        ]
        headers = {"Content-Type": "application/x-ndjson", "Ingest-First-Seq": str(first)}
        body = "\n".join(lines) + "\n"
        return int(_insist(http, "POST", f"/v1/sessions/{name}/steps", headers=headers, content=body)["next_seq"])

    def _doings(self, chance: random.Random) -> Iterator[Posted]:
        """What one visitor does. Nonsense leaves the desktop as it is, as does a hand that rests."""
        world, steps = World(), 0
        while steps < LONGEST and not self._stop.is_set():
            for inputs in visitor_session(world, chance):
                steps += 1
                odd = chance.random()
                if odd < 0.03:
                    yield chance.choice(POISON), False, {}
                elif odd < 0.08:
                    state = world.state
                    yield {"x": state.x, "y": state.y}, False, {}
                elif odd < 0.10:
                    yield None, True, {}
                    world.reset()
                    break  # what it was about to do makes no sense any more
                world.step(inputs)
                members = {"png": chance.randbytes(40)} if chance.random() < 0.3 else {}
                yield inputs.wire(), False, members
                if steps >= LONGEST or self._stop.is_set():
                    return


def _insist(http: httpx.Client, method: str, path: str, **request: Any) -> dict[str, Any]:
    """Ask until it is granted: the gateway may be dead just now. Raises for what no repetition helps."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            reply = http.request(method, path, **request)
        except httpx.TransportError:
            reply = None
        if reply is not None and reply.status_code < 300:
            content: dict[str, Any] = reply.json()
            return content
        if reply is not None and reply.status_code < 500 and reply.status_code not in (408, 429):
            raise AssertionError(f"{method} {path}: {reply.status_code} {reply.text}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{method} {path}: no answer for {PATIENCE:.0f} s")
        time.sleep(0.05)
