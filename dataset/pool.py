"""Worker processes that load samples ahead, as the process sees them that mixes."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from dataset.errors import SourceError, WorkerError
from dataset.parcels import unpacked
from dataset.planning import Loaded, LoadingSource
from dataset.ring import Ring
from dataset.worker import PART, Raised, Task, work

logger = logging.getLogger(__name__)

AHEAD_BYTES = 64 << 20
"""Bytes of decoded samples that may be ready and not yet asked for, in all workers together."""
DEATHS = 5
"""Times that a worker may die over the same samples before that is an error."""
_SLOW = 30.0
_LEAST_RING = 1 << 20


class _Worker:
    """One process, and what it was given and has not answered."""

    def __init__(self, context: Any, sources: Mapping[str, LoadingSource], ring_bytes: int) -> None:
        self.open: dict[int, Task] = {}
        self.partial: dict[int, tuple[bytearray, int]] = {}
        self.ring = Ring(ring_bytes)
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=work, args=(sources, theirs, self.ring), name="stovetop-loader", daemon=True
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

    A worker that dies is replaced, and what it had not answered is loaded again; loading depends on nothing but what is
    loaded, so nobody can tell. Processes are started from a clean one (a fork server), never forked from this one,
    whose threads and clients would not survive that; so sources have to be picklable, and the main script has to guard
    what it does with `if __name__ == "__main__":`.
    """

    def __init__(self, sources: Mapping[str, LoadingSource], workers: int, ahead_bytes: int = AHEAD_BYTES) -> None:
        self._team: list[_Worker] = []
        _check_picklable(sources)
        self.workers, self.ahead_bytes = workers, ahead_bytes
        self._sources = dict(sources)
        self._context = _context()
        self._ring_bytes = max(_LEAST_RING, ahead_bytes // workers)
        self._next = 0
        self._deaths: dict[int, int] = {}
        self._answers: dict[int, bytearray] = {}
        self._of: dict[int, _Worker] = {}
        self._lanes: dict[tuple[str, int], int] = {}  # which worker of the team has it
        try:
            for _ in range(workers):
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
        task = Task(self._next, source, tuple(whats))
        self._next += 1
        if lane is None:
            worker = min(self._team, key=lambda each: len(each.open))
        else:
            worker = self._team[self._lanes.setdefault((source, lane), len(self._lanes) % len(self._team))]
        self._of[task.ticket] = worker
        worker.give(task)
        return task.ticket

    def answer(self, ticket: int) -> tuple[list[Loaded | Raised], int]:
        """What was loaded, and its size in bytes; waits for it. A ticket is asked for once."""
        worker = self._of[ticket]
        while ticket not in self._answers:
            try:
                self._receive(worker)
            except (EOFError, OSError):
                worker = self._replace(worker, ticket)
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

    def _receive(self, worker: _Worker) -> None:
        """Wait for one message of a worker, and take it in."""
        while not worker.connection.poll(_SLOW):
            oldest = next(iter(worker.open.values()))
            logger.warning("a worker has been loading samples of %s for %d s", oldest.source, _SLOW)
        ticket, size, count = PART.unpack(worker.connection.recv_bytes())
        data, done = worker.partial.pop(ticket) if ticket in worker.partial else (bytearray(size), 0)
        with memoryview(data) as view:
            worker.ring.read_into(view[done : done + count])
        if done + count < size:
            worker.partial[ticket] = (data, done + count)
            return
        del worker.open[ticket]
        if ticket in self._of:
            self._answers[ticket] = data

    def _replace(self, worker: _Worker, ticket: int) -> _Worker:
        """Start another process for one that has ended, and give it what the first had not answered."""
        worker.process.join(1)
        code = worker.process.exitcode
        left = [task for task in worker.open.values() if task.ticket in self._of]
        worker.close()
        blamed = left[0]
        deaths = self._deaths[blamed.ticket] = self._deaths.get(blamed.ticket, 0) + 1
        if deaths >= DEATHS:
            raise WorkerError(
                f'{deaths} workers ended (the last with exit code {code}) while they loaded samples of "{blamed.source}"; '
                "look above for what they said; to load in the process that trains, set workers to 0"
            )
        logger.warning("a worker ended with exit code %s; another one loads %d tasks again", code, len(left))
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
        process.join()


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
