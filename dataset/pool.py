"""Worker processes that load samples ahead, as the process sees them that mixes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from dataset.errors import SourceError, WorkerError
from dataset.loading import Loading
from dataset.parcels import unpacked
from dataset.planning import Loaded, LoadingSource
from dataset.ring import Ring
from dataset.worker import PART, STARTED, Raised, Task, work

logger = logging.getLogger(__name__)

DEATHS = 5
"""Times that a worker may die, or hang, over the same samples before that is an error."""
GRACE = 2.0
"""Seconds after which a worker that says nothing is no longer just waited for: other things are done meanwhile."""
_SLICE = 0.05
_START = 120.0  # seconds that a worker has at least to begin
_LEAST_RING = 1 << 20


class _Worker:
    """One process, and what it was given and has not answered."""

    def __init__(self, context: Any, sources: Mapping[str, LoadingSource], ring_bytes: int) -> None:
        self.open: dict[int, Task] = {}
        self.partial: dict[int, tuple[bytearray, int]] = {}
        self.silent = 0.0  # seconds that it was waited for since it said something
        self.started = False
        self.ring = Ring(ring_bytes)
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=work, args=(sources, theirs, self.ring, dict(os.environ)), name="stovetop-loader", daemon=True
        )
        try:
            self.process.start()
        finally:
            theirs.close()  # else its death would not be seen here
            self.ring.handed_over()

    def give(self, task: Task) -> None:
        self.open[task.ticket] = task
        try:
            self.connection.send(task)
        except OSError:  # it died; that is noticed where its answer is waited for
            logger.debug("%s: a task could not be given", self.process.name)

    def close(self) -> None:
        _end(self.connection, self.process)
        self.ring.close()


class Pool:
    """Loads samples in processes of its own. Used from one thread.

    A worker that dies is replaced, and so is one that hangs (see `Loading`). What it had not answered
    is loaded again; loading depends on nothing but what is loaded, so nobody can tell. Processes are started from a clean
    one (a fork server), never forked from this one, whose threads and clients would not survive that; so sources have to
    be picklable, and the main script has to guard what it does with `if __name__ == "__main__":`.
    """

    def __init__(self, sources: Mapping[str, LoadingSource], loading: Loading) -> None:
        self._team: list[_Worker] = []
        _check_picklable(sources)
        self.workers, self.ahead_bytes = loading.workers, loading.ahead_bytes
        self._timeout, self._patience = loading.timeout, loading.patience
        self._sources = dict(sources)
        self._context = _context()
        self._ring_bytes = max(_LEAST_RING, self.ahead_bytes // self.workers)
        self._next = 0
        self._deaths: dict[int, int] = {}
        self._answers: dict[int, bytearray] = {}
        self._of: dict[int, _Worker] = {}
        self._lanes: dict[tuple[str, int], int] = {}  # which worker of the team has it
        try:
            for _ in range(self.workers):
                self._team.append(self._started())
        except BaseException:
            self.close()
            raise

    @property
    def processes(self) -> tuple[int, ...]:
        """The ids of the worker processes."""
        return tuple(worker.process.pid or 0 for worker in self._team)

    def submit(self, source: str, whats: Sequence[Any], lane: int | None = None) -> int:
        """Let samples be loaded; returns the ticket that their answer is asked for by.

        Those of a lane are all given to one worker, or to the one that takes its place.
        """
        self._look_at(self._team[self._next % len(self._team)])
        task = Task(self._next, source, tuple(whats), lane)
        self._next += 1
        if lane is None:
            worker = min(self._team, key=lambda each: (each.silent >= self._patience, len(each.open)))
        else:
            worker = self._team[self._lanes.setdefault((source, lane), len(self._lanes) % len(self._team))]
        self._of[task.ticket] = worker
        worker.give(task)
        return task.ticket

    def answer(self, ticket: int) -> tuple[list[Loaded | Raised], int] | None:
        """What was loaded, and its size in bytes; waits for it, but does not keep who asks from anything else.

        None where the worker has said nothing for two seconds: then it is to be asked again, every time for 50 ms. A ticket
        is not asked for again once it was answered.
        """
        worker = self._of[ticket]
        while ticket not in self._answers:
            try:
                if not self._receive(worker):
                    self._said_nothing(worker)
                    worker = self._of[ticket]
                    if worker.started and worker.silent >= GRACE:
                        return None
            except (EOFError, OSError):
                worker = self._replace_dead(worker)
        del self._of[ticket]
        self._deaths.pop(ticket, None)
        data = self._answers.pop(ticket)
        loaded: list[Loaded | Raised] = unpacked(data)
        return loaded, len(data)

    def forget(self, tickets: Sequence[int]) -> None:
        """Do not keep the answers of these."""
        for ticket in tickets:
            self._of.pop(ticket, None)  # an answer that comes yet is dropped
            self._answers.pop(ticket, None)
            self._deaths.pop(ticket, None)

    def close(self) -> None:
        """End the processes."""
        for worker in self._team:
            worker.close()
        self._team.clear()

    def _started(self) -> _Worker:
        worker = _Worker(self._context, self._sources, self._ring_bytes)
        weakref.finalize(self, _end, worker.connection, worker.process)
        return worker

    def _receive(self, worker: _Worker) -> bool:
        """Take in one message of a worker; False where none comes for a moment."""
        if not worker.connection.poll(_SLICE):
            return False
        worker.silent = 0.0
        ticket, size, count = PART.unpack(worker.connection.recv_bytes())
        if ticket == STARTED:
            worker.started = True
            return True
        data, done = worker.partial.pop(ticket) if ticket in worker.partial else (bytearray(size), 0)
        with memoryview(data) as view:
            worker.ring.read_into(view[done : done + count])
        if done + count < size:
            worker.partial[ticket] = (data, done + count)
            return True
        del worker.open[ticket]
        if ticket in self._of:
            self._answers[ticket] = data
        return True

    def _said_nothing(self, worker: _Worker) -> None:
        before, worker.silent = worker.silent, worker.silent + _SLICE
        if self._timeout is not None and worker.silent >= max(self._timeout, 0 if worker.started else _START):
            worker.process.kill()
            self._replace(worker, f"a worker hung for {worker.silent:.0f} s and was ended")
            return
        if worker.started and worker.silent >= self._patience:
            self._relieve(worker)
        if worker.silent // self._patience > before // self._patience:
            oldest = next(iter(worker.open.values()))
            logger.warning("a worker has been loading samples of %s for %.0f s", oldest.source, worker.silent)

    def _relieve(self, worker: _Worker) -> None:
        """Let others load what waits behind that over which a worker hangs; whoever answers first is heard."""
        others = [each for each in self._team if each.silent < self._patience]
        for task in list(worker.open.values())[1:]:
            if others and task.lane is None and self._of.get(task.ticket) is worker:
                other = min(others, key=lambda each: len(each.open))
                self._of[task.ticket] = other
                other.give(task)

    def _look_at(self, worker: _Worker) -> None:
        """Replace it if it has ended: one that is not waited for would never be missed."""
        if not worker.process.is_alive():
            self._replace_dead(worker)

    def _replace_dead(self, worker: _Worker) -> _Worker:
        worker.process.join(1)
        return self._replace(worker, f"a worker ended with exit code {worker.process.exitcode}")

    def _replace(self, worker: _Worker, why: str) -> _Worker:
        """Start another process for one that has ended, and give it what the first had not answered."""
        left = [task for task in worker.open.values() if self._of.get(task.ticket) is worker]
        worker.close()
        for blamed in left[:1]:
            deaths = self._deaths[blamed.ticket] = self._deaths.get(blamed.ticket, 0) + 1
            if deaths >= DEATHS:
                raise WorkerError(
                    f'{deaths} workers ended or hung over the same samples of "{blamed.source}" (the last: {why}); look '
                    "above for what they said; to load in the process that trains, set workers to 0"
                )
        logger.warning("%s; another one loads %d tasks again", why, len(left))
        other = self._started()
        self._team[self._team.index(worker)] = other
        for task in left:
            self._of[task.ticket] = other
            other.give(task)
        return other


def _end(connection: Connection, process: BaseProcess) -> None:
    """Let a worker end, which it does as soon as its connection is closed."""
    if not connection.closed:
        connection.close()
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join(5)  # one that waits for a disk ends when that answers, if ever


def _context() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dataset.worker"])  # imported once, not by each; where none is running yet
    return context


def _check_picklable(sources: Mapping[str, LoadingSource]) -> None:
    for name, source in sources.items():
        try:
            pickle.dumps(source)
        except Exception as error:
            raise SourceError(
                f'source "{name}" cannot be sent to worker processes ({type(error).__name__}: {error}); let its parts '
                "be named in a module (a decode function that is no lambda), or set workers to 0"
            ) from error
