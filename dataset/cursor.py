"""Where the iterators of an iterable dataset stand, in the process that owns them.

What is wanted is always named by its pass and place, so a cursor depends on nothing that went before: asked for what
comes next it reads on, asked for anything else it goes there. There it goes by the dataset's own `state_dict`, if a
snapshot of one is at hand, and else through the elements before.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import msgspec

from dataset.compat import AsPart, forget_state, one_pass, tells_its_state
from dataset.digest import digest
from dataset.errors import SourceError
from dataset.planning import Loaded

logger = logging.getLogger(__name__)

EVERY = 128
"""Elements of a part between two snapshots."""
KEPT = 8
"""Snapshots of a part that are kept."""
_STATE_BYTES = 1 << 15


class Snapshot(msgspec.Struct, frozen=True):
    """A fact about a pass: element `place` of a part has this digest, and before it the dataset had this state (if any)."""

    part: int
    number: int
    place: int
    digest: str
    state: Any = None

    @property
    def at(self) -> tuple[int, int]:
        """The pass, and the place in it."""
        return self.number, self.place


class Wanted(NamedTuple):
    """Element `place` of a part, in pass `number`; `near` is the best known snapshot before it."""

    seed: int
    part: int
    number: int
    place: int
    near: Snapshot | None = None


class Element(Loaded, frozen=True):
    """What was wanted; or that its pass had `ended` before it. With it may come a snapshot, taken on the way."""

    ended: bool = False
    snapshot: Snapshot | None = None


class ElementLoader:
    """Loads elements of a dataset, in parts."""

    def __init__(
        self, dataset: Iterable[Any], decode: Callable[[Any], Any], parts: int, label: str, beginning: Any = None
    ) -> None:
        self._dataset, self._decode, self._parts, self._label = dataset, decode, parts, label
        self._beginning = beginning  # the state that it is to begin with
        self._cursors: dict[int, Cursor] = {}

    def __call__(self, wanted: Wanted) -> Loaded:
        """The element, decoded. Raises `SourceError` where the dataset raises."""
        cursor = self._cursors.get(wanted.part)
        if cursor is None:
            cursor = Cursor(self._own(), wanted.part, self._parts, self._label, self._beginning)
            self._cursors[wanted.part] = cursor
        element, ended, snapshot = cursor.get(wanted)
        if ended:
            return Element("", None, ended=True, snapshot=snapshot)
        if (type(element) is dict or isinstance(element, Mapping)) and "__key__" in element:
            key = str(element["__key__"])
        elif self._parts == 1:
            key = f"{wanted.number}/{wanted.place}"
        else:
            key = f"{wanted.number}/{wanted.part}/{wanted.place}"
        loaded = Loaded.decoded(self._decode, element, key)
        return loaded if snapshot is None else Element(key, loaded.sample, error=loaded.error, snapshot=snapshot)

    def _own(self) -> Iterable[Any]:
        """The dataset, of which each part changes one of its own."""
        if self._parts == 1:
            return self._dataset
        try:
            return deepcopy(self._dataset)
        except Exception as error:
            raise SourceError(
                f"{self._label}: it cannot be copied ({type(error).__name__}: {error}), so it is read in 1 part, not in "
                f"{self._parts}"
            ) from error


class Cursor:
    """One part of a dataset, at some place of some pass."""

    def __init__(self, dataset: Any, part: int, parts: int, label: str, beginning: Any = None) -> None:
        self._dataset, self._part, self._label = dataset, part, label
        self._as_part = AsPart(dataset, part, parts)
        self._elements: Iterator[Any] | None = None
        self._pass = (0, -1)  # seed and number
        self._place = 0
        self._ended = False
        self._snapshots: list[Snapshot] = []
        self._sound = tells_its_state(dataset)
        self._told = False
        self._beginning = beginning

    def get(self, wanted: Wanted) -> tuple[Any, bool, Snapshot | None]:
        """The element, whether its pass ended before it, and the last snapshot that was taken on the way."""
        if (wanted.seed, wanted.number) != self._pass:
            self._snapshots.clear()
            self._go_to(wanted)
        elif wanted.place < self._place:
            self._go_to(wanted)
        snapshot = None
        with self._as_part:
            while not self._ended:
                element, taken = self._next(wanted)
                snapshot = taken or snapshot
                if self._place > wanted.place:
                    return element, False, snapshot
        return None, True, snapshot

    def _go_to(self, wanted: Wanted) -> None:
        """Stand at the wanted place, or before it."""
        known = [each for each in self._snapshots if each.place <= wanted.place]
        near = wanted.near
        if near is not None and near.number == wanted.number and near.place <= wanted.place:
            known.append(near)
        best = max((each for each in known if each.state is not None), key=lambda each: each.place, default=None)
        self._pass, self._ended = (wanted.seed, wanted.number), False
        if best is not None and self._sound and self._restored(best):
            return
        self._begin(self._beginning)
        self._place = 0

    def _restored(self, snapshot: Snapshot) -> bool:
        """Whether the dataset goes on by its own state, and with the same element."""
        try:
            with self._as_part:
                self._begin(snapshot.state)
                assert self._elements is not None
                first = next(self._elements, None)
                if first is not None and digest(first) == snapshot.digest:
                    self._begin(snapshot.state)
                    self._place = snapshot.place
                    return True
            problem = "it went on with another element"
        except Exception as error:  # its own state is a short cut; the way through the elements is always there
            problem = f"{type(error).__name__}: {error}"
        self._sound = False
        logger.warning(
            "%s: its state of pass %d, element %d, does not lead back there (%s); its elements are gone through instead",
            self._label,
            *snapshot.at,
            problem,
        )
        return False

    def _begin(self, state: Any) -> None:
        seed, number = self._pass
        with self._as_part:
            if state is not None:
                self._dataset.load_state_dict(deepcopy(state))
            else:
                forget_state(self._dataset)
            self._elements = iter(one_pass(self._dataset, seed, number, self._part))

    def _next(self, wanted: Wanted) -> tuple[Any, Snapshot | None]:
        """The element where the cursor stands, which goes on."""
        assert self._elements is not None
        noted = self._place % EVERY == 0 and self._place > 0
        state = self._state() if noted else None
        try:
            element = next(self._elements)
        except StopIteration:
            self._ended = True
            return None, None
        except Exception as error:
            place, self._pass = self._place, (0, -1)
            raise SourceError(
                f"{self._label}: pass {wanted.number}, element {place} could not be read ({type(error).__name__}: {error}), "
                "and what an iterator has raised at cannot be passed over; let the dataset leave out what it cannot read"
            ) from error
        taken = None
        if noted:
            taken = Snapshot(self._part, wanted.number, self._place, digest(element), state)
            self._keep(taken)
        near = wanted.near
        if near is not None and near.place == self._place and near.number == wanted.number:
            self._compare(near, element)
        self._place += 1
        return element, taken

    def _state(self) -> Any:
        """The dataset's own state, if it is one that a checkpoint can hold."""
        if not self._sound:
            return None
        try:
            state = self._dataset.state_dict()
            text = msgspec.json.encode(state)
            return state if len(text) <= _STATE_BYTES and msgspec.json.decode(text) == state else None
        except Exception as error:  # it is a short cut only
            logger.debug("%s: its state cannot be kept: %s", self._label, error)
            return None

    def _keep(self, taken: Snapshot) -> None:
        at = bisect_right(self._snapshots, taken.place, key=lambda each: each.place)
        if at and self._snapshots[at - 1].place == taken.place:
            return
        self._snapshots.insert(at, taken)
        del self._snapshots[:-KEPT]

    def _compare(self, known: Snapshot, element: Any) -> None:
        if not self._told and digest(element) != known.digest:
            self._told = True
            logger.warning(
                "%s: pass %d, element %d is another one than it was before; passes of the same number have to be the same, "
                "else no resume goes on where training was: seed what is random in it",
                self._label,
                *known.at,
            )
