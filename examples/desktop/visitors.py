"""Simulated people who use the deployed desktop through its own WebSocket, as a browser would.

A visitor knows how a desktop works: it keeps the true one in mind, goes about what real users want (mostly the
browser and folders), and looks at what the app shows. When the picture is not what it waited for, it goes on, resets
the desktop, or leaves; some close the tab in the middle of things. Each try is written down with what the visitor saw,
when, and which version had painted it: one JSON object a line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import websockets
from websockets.asyncio.client import ClientConnection, connect

from examples.desktop.evaluate import Trial, decisive
from examples.desktop.inputs import Inputs
from examples.desktop.screen import Frame
from examples.desktop.scripted import VISITOR_GOALS, Goal, pursue
from examples.desktop.wire import Shown, unpack
from examples.desktop.world import MAX_FOLDERS, World
from stovetop.lifeline import watch_lifeline

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Habits:
    """How visitors behave: `pace` in steps a second, the others as chances."""

    pace: float = 8.0
    leaves_at_a_step: float = 0.002
    leaves_disappointed: float = 0.25
    resets_disappointed: float = 0.4
    most_goals: int = 5


@dataclass(frozen=True)
class Try:
    """One goal of one visitor: whether the screen came to show what was wanted, as seen by it."""

    time: float
    session: str
    goal: Goal
    seen: bool
    steps: int
    version: str


class Left(Exception):  # a visitor's own decision, not an error of anything
    """The visitor closed the tab."""


class Visitor:
    """One visit."""

    def __init__(
        self, socket: ClientConnection, rng: random.Random, habits: Habits, note: Callable[[Try], None]
    ) -> None:
        self._socket = socket
        self._rng = rng
        self._habits = habits
        self._note = note
        self._world = World()
        self._shown: Shown | None = None
        self._due = time.monotonic()
        self.steps = 0

    async def visit(self) -> None:
        """Come, try some things, go."""
        self._shown = unpack(_binary(await self._socket.recv()))
        goals, shares = zip(*VISITOR_GOALS.items(), strict=True)
        for _ in range(self._rng.randint(1, self._habits.most_goals)):
            goal = self._rng.choices(goals, shares)[0]
            if goal is Goal.FOLDER and self._world.state.folders == MAX_FOLDERS:
                await self._reset()  # there is no room for another one
            if await self._try(goal):
                continue
            fate = self._rng.random()
            if fate < self._habits.leaves_disappointed:
                return
            if fate < self._habits.leaves_disappointed + self._habits.resets_disappointed:
                await self._reset()

    async def _try(self, goal: Goal) -> bool:
        states, start = [self._world.state], self._frame
        inputs_done: list[Inputs] = []
        for inputs in pursue(goal, self._world, self._rng):
            self._world.step(inputs)
            states.append(self._world.state)
            inputs_done.append(inputs)
            await self._send(json.dumps(inputs.wire()))
            if self._rng.random() < self._habits.leaves_at_a_step:
                raise Left
        wanted = Trial(goal, start, tuple(inputs_done), self._world.frame, decisive(goal, states))
        seen = wanted.succeeds(self._frame)
        assert self._shown is not None
        self._note(Try(time.time(), self._shown.session, goal, seen, len(inputs_done), self._shown.version))
        return seen

    async def _reset(self) -> None:
        self._world.reset()
        await self._send(json.dumps({"reset": True}))

    async def _send(self, message: str) -> None:
        self._due = max(self._due + self._rng.uniform(0.5, 1.5) / self._habits.pace, time.monotonic())
        await asyncio.sleep(self._due - time.monotonic())
        await self._socket.send(message)
        self._shown = unpack(_binary(await self._socket.recv()))
        self.steps += 1

    @property
    def _frame(self) -> Frame:
        assert self._shown is not None
        return self._shown.frame


async def visit_for_ever(url: str, name: int, seed: int, habits: Habits, note: Callable[[Try], None]) -> None:
    """One person after another on one seat; a door that is shut is tried again."""
    rng = random.Random(f"visitor/{seed}/{name}")
    while True:
        try:
            async with connect(url, max_size=1 << 20, open_timeout=20) as socket:
                await Visitor(socket, rng, habits, note).visit()
        except Left:
            logger.debug("seat %d: left early", name)
        except (OSError, websockets.WebSocketException, TimeoutError) as error:
            logger.warning("seat %d: %s", name, error)
            await asyncio.sleep(1.0)
        await asyncio.sleep(rng.uniform(0.1, 1.0))


async def crowd(url: str, seats: int, seed: int, habits: Habits, journal: Path) -> None:
    """Visitors on every seat, until cancelled."""
    with journal.open("a", buffering=1) as file:

        def note(done: Try) -> None:
            file.write(json.dumps(asdict(done)) + "\n")

        await asyncio.gather(*(visit_for_ever(url, seat, seed, habits, note) for seat in range(seats)))


def _binary(message: str | bytes) -> bytes:
    if isinstance(message, str):
        raise TypeError(f"message: {message[:40]!r} is text, but frames are binary")
    return message


def main() -> None:
    """`python -m examples.desktop.visitors --url ws://…/ws --journal FILE`."""
    parser = argparse.ArgumentParser(description="Simulated visitors of the desktop.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--seats", type=int, default=6)
    parser.add_argument("--pace", type=float, default=Habits.pace)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    watch_lifeline()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(crowd(options.url, options.seats, options.seed, Habits(pace=options.pace), options.journal))


if __name__ == "__main__":
    main()
