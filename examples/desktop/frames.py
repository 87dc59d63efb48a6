"""Answers visitors' steps with frames: the waiting ones of all visitors go to the model as one batch.

Each batch is answered by one version from first to last, and each answer says which: a swap falls between two batches.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from examples.desktop.inputs import Inputs
from examples.desktop.model import paint_next
from examples.desktop.screen import Frame
from publish import LiveModel

__all__ = ["Answer", "FrameServer"]

LARGEST_BATCH = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """A painted frame, with the label of the version that painted it and the digest of its weights."""

    frame: Frame
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Request:
    before: Frame
    inputs: Inputs
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Answer]


class FrameServer:
    """Paints next frames with a `LiveModel`, in one thread of its own."""

    def __init__(self, live: LiveModel[Any], seed: int = 0, threads: int = 1) -> None:
        self._live = live
        self._generator = torch.Generator().manual_seed(seed)
        self._threads = threads
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)
        self.painted = 0
        self.seconds = 0.0
        self._thread.start()

    async def next(self, before: Frame, inputs: Inputs) -> Answer:
        """The frame after `before` [24, 32, 3] under `inputs`."""
        loop = asyncio.get_running_loop()
        request = _Request(before, inputs, loop, loop.create_future())
        self._waiting.put(request)
        return await request.future

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        self._waiting.put(None)
        self._thread.join(10.0)

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        while (request := self._waiting.get()) is not None:
            batch = [request]
            while len(batch) < LARGEST_BATCH and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    self._waiting.put(None)
                    break
                batch.append(following)
            self._answer(batch)

    def _answer(self, batch: list[_Request]) -> None:
        begun = time.monotonic()
        try:
            with self._live.use() as served:
                frames = paint_next(
                    served.module,
                    np.stack([request.before for request in batch]),
                    [request.inputs for request in batch],
                    self._generator,
                )
                version, digest = served.label, served.digest
        except Exception as error:  # one bad batch is told to its visitors and must not end the thread
            for request in batch:
                request.loop.call_soon_threadsafe(_fail, request.future, error)
            return
        self.painted += len(batch)
        self.seconds += time.monotonic() - begun
        for request, frame in zip(batch, frames, strict=True):
            request.loop.call_soon_threadsafe(_resolve, request.future, Answer(frame, version, digest))


def _resolve(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():  # the visitor may have left meanwhile
        future.set_result(answer)


def _fail(future: asyncio.Future[Answer], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
