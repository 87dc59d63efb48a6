"""Who is there: the actors of all runs, connected or away, and the commands that each takes.

Changed at the desk only; any thread may look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from control.protocol import ActorKind, CommandSpec, ToActor
from control.store import StoredActor


@dataclass(frozen=True)
class Link:
    """A connection to an actor. `post` queues a message; `dismiss` ends the connection with a reason."""

    post: Callable[[ToActor], None]
    dismiss: Callable[[str], None]


@dataclass
class Seat:
    """An actor's place. `link` is None while it is away, since `left_at`; `heard` is when it last said anything."""

    actor: StoredActor
    link: Link | None
    left_at: float
    heard: float = 0.0

    def spec(self, command: str) -> CommandSpec | None:
        """How this actor takes the command; None where it does not."""
        return next((spec for spec in self.actor.commands if spec.name == command), None)


class Roster:
    """All seats, by run and actor."""

    def __init__(self) -> None:
        self._seats: dict[tuple[str, str], Seat] = {}

    def put(self, seat: Seat) -> None:
        """Add a seat, or replace the one of the same run and name."""
        self._seats[seat.actor.run, seat.actor.actor] = seat

    def get(self, run: str, actor: str) -> Seat | None:
        """The seat of that run and name."""
        return self._seats.get((run, actor))

    def holding(self, link: Link) -> Seat | None:
        """The seat that this connection holds now; None after it was replaced."""
        return next((seat for seat in self._seats.values() if seat.link is link), None)

    def of(self, run: str) -> list[Seat]:
        """The seats of a run."""
        return [seat for seat in self if seat.actor.run == run]

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._seats.values()))

    def takers(self, command: str, run: str | None) -> list[Seat]:
        """Who takes the command, in that run or in any."""
        return [s for s in self if (run is None or s.actor.run == run) and s.spec(command) is not None]

    def trainer(self, run: str) -> Seat | None:
        """The trainer of a run: the one that is connected, else any that was."""
        trainers = [seat for seat in self.of(run) if seat.actor.kind == ActorKind.TRAINER]
        return next((seat for seat in trainers if seat.link), trainers[-1] if trainers else None)

    def commands(self) -> set[str]:
        """The name of every command that anybody takes."""
        return {spec.name for seat in self for spec in seat.actor.commands}
