"""A worker process: loads what it is told to, in that order, and ends with the process that started it."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import struct
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import torch

from dataset.parcels import packed, size_of
from dataset.planning import Loaded, Loader, LoadingSource
from dataset.ring import Ring

logger = logging.getLogger(__name__)

PART = struct.Struct("<QQQ")
"""A part of an answer is in the ring: the ticket, the bytes of the whole answer, those of this part."""

STARTED = (1 << 64) - 1
"""The ticket of a worker's first message: it has begun."""


class Raised(msgspec.Struct, frozen=True):
    """The error that a loader raised; it ends reading."""

    error: Exception


class Task(msgspec.Struct, frozen=True):
    """Samples of one source that are to be loaded, and answered together."""

    ticket: int
    source: str
    whats: tuple[Any, ...]
    lane: int | None = None


def work(sources: Mapping[str, LoadingSource], tasks: Connection, ring: Ring, environment: Mapping[str, str]) -> None:
    """Load until `tasks` is closed, with the environment that the starting process has now."""
    os.environ.update(environment)  # the fork server has that of the time when it was started
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides
    torch.set_num_threads(1)
    loaders: dict[str, Loader] = {}
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    # a thread reads tasks, so that sending them never blocks, and sees the other side end whatever is being decoded
    threading.Thread(target=_receive, args=(tasks, waiting), daemon=True).start()
    _send(tasks, STARTED, 0, 0)
    while True:
        task = waiting.get()
        if task.source not in loaders:
            loaders[task.source] = sources[task.source].loader()
        _answer(task, _load_all(loaders[task.source], task.whats), tasks, ring)


def _receive(tasks: Connection, waiting: queue.SimpleQueue[Task]) -> None:
    while True:
        try:
            waiting.put(tasks.recv())
        except (EOFError, OSError):
            os._exit(0)


def _load_all(loader: Loader, whats: tuple[Any, ...]) -> list[Loaded | Raised]:
    """Together as far as that goes, and the rest one by one."""
    together: list[Loaded | Raised] = []
    many = getattr(loader, "many", None)
    if many is not None and len(whats) > 1:
        try:
            together.extend(many(list(whats)).loaded())
        except Exception:  # it is met again by itself
            logger.debug("%d samples cannot be loaded together", len(whats), exc_info=True)
    return together + [_load(loader, what) for what in whats[len(together) :]]


def _load(loader: Loader, what: Any) -> Loaded | Raised:
    try:
        loaded = loader(what)
    except Exception as error:
        return Raised(_sendable(error))
    if loaded.error is not None:
        return msgspec.structs.replace(loaded, error=_sendable(loaded.error))
    return loaded


def _answer(task: Task, answers: list[Loaded | Raised], tasks: Connection, ring: Ring) -> None:
    try:
        pieces = packed(answers)
    except Exception as error:  # a sample that cannot be pickled
        pieces = packed([Raised(_sendable(error))] * len(answers))
    size = size_of(pieces)
    ring.write(pieces, lambda count: _send(tasks, task.ticket, size, count))


def _send(tasks: Connection, ticket: int, size: int, count: int) -> None:
    try:
        tasks.send_bytes(PART.pack(ticket, size, count))
    except OSError:  # nobody is there to be answered
        os._exit(0)


def _sendable(error: Exception) -> Exception:
    """The error, if it survives pickling, which many with arguments of their own do not; else one that tells of it."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = None
    if type(copy) is type(error) and str(copy) == str(error):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
