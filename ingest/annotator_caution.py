"""Finds the step that takes the annotator's process down, so that it cannot block its partition for ever.

An exception is easily caught; an exhausted memory, a crash in native code or a hang that a watchdog ends is not. After
a few starts in a row without progress, a step is named in the writer's state before it is given to its annotator. One
that is found there after several deaths is passed over. In ordinary runs this costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec

from ingest.log import LogWriter
from ingest.types import Point

STARTS = 2
"""Starts without progress after which the next one is careful."""
DEATHS = 2
"""Deaths over one step after which it is passed over."""
STEPS = 1000
"""Steps to be careful with: more than are annotated between two commits."""

logger = logging.getLogger(__name__)


class _Trying(msgspec.Struct, frozen=True):
    """The step that is being annotated, and how often the process died over it before."""

    point: Point
    deaths: int


_tried = msgspec.msgpack.Decoder(_Trying)


class Caution:
    """Counts starts and deaths in the state of the annotator's writer; `commit` stores more state, and all else due."""

    def __init__(
        self, writer: LogWriter, state: Mapping[str, bytes], commit: Callable[[Mapping[str, bytes | None]], None]
    ) -> None:
        starts = int(state.get("starts", b"0")) + 1
        writer.commit((), {"starts": str(starts).encode()})
        self._commit = commit
        self._left = STEPS if starts > STARTS else 0
        self._settled = False
        self._trying = {
            key: _tried.decode(value) for key, value in state.items() if key.startswith(("trying/", "replaying/"))
        }
        if self._left:
            logger.warning("started %d times without progress: looking for a step that ends the process", starts)

    def spare(self, partition: int, point: Point, replayed: bool) -> bool:
        """Whether the step at `point` may be given to its annotator, for the first time or while state is rebuilt."""
        if not self._left:
            return True
        key = f"{'replaying' if replayed else 'trying'}/{partition}"
        before = self._trying.get(key)
        deaths = before.deaths + 1 if before is not None and before.point == point else 0
        if deaths >= DEATHS:
            return False
        self._left -= not replayed
        trying = self._trying[key] = _Trying(point, deaths)
        self._commit({key: msgspec.msgpack.encode(trying)})
        return True

    def progressed(self) -> dict[str, bytes | None]:
        """What to store when steps have got their outcomes: that this start was a good one, once it has proved so."""
        if self._settled or self._left:
            return {}
        self._settled = True
        return {"starts": None, **dict.fromkeys(self._trying)}
