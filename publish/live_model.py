"""A model that is replaced while it serves.

Every request holds one version from its first line to its last; the next version is built beside it, warmed up, and
made current by one assignment between two requests. The one before stays warm for an instant way back. A third copy,
once no request holds it, is refilled in place for the next version, so that compiled graphs keep their tensors.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from publish.errors import NotServing

M = TypeVar("M")
BASE = "base"


class Loader(Protocol[M]):
    """How a folder becomes a module; `publish.loading` has one for `nn.Module` and one for `from_pretrained`."""

    def load(self, folder: Path, spare: M | None) -> M:
        """A module with the folder's weights: `spare` refilled where that can be, else a new one.

        Raises WeightsMismatch before any tensor of `spare` is touched.
        """


@dataclass(frozen=True)
class Served(Generic[M]):
    """What a request works with. `version` is None for the packaged base; `label` stamps answers (`000042` or
    `base`); `folder` holds the version's files, where they are still kept."""

    module: M
    version: int | None
    label: str
    digest: str
    folder: Path


@dataclass(eq=False)
class _Slot(Generic[M]):
    served: Served[M]
    pins: int = 0


@dataclass(frozen=True)
class Swap(Generic[M]):
    """What a swap did. `refilled` says that a standing module was filled; the times are 0 for one that was warm."""

    served: Served[M]
    load_seconds: float
    warm_up_seconds: float
    refilled: bool


Observer = Callable[[str, float, bool], object]
"""Hears of every request when it ends: the digest of the weights, its seconds, and whether it failed."""


class LiveModel(Generic[M]):
    """One served model. `base` is the packaged folder that is served until there is a version; `warm_up` is called
    with each new module before it serves, in the thread that swaps. `observer` is called in the request's thread."""

    def __init__(
        self, loader: Loader[M], base: Path | None = None, *, warm_up: Callable[[M], object] | None = None
    ) -> None:
        self._loader = loader
        self._warm_up = warm_up
        self._lock = threading.Lock()  # guards the slots; held for a few instructions
        self._swapping = threading.Lock()  # one swap at a time
        self._current: _Slot[M] | None = None
        self._previous: _Slot[M] | None = None
        self._spares: list[_Slot[M]] = []
        self.observer: Observer | None = None
        if base is not None:
            self.swap(base, None, BASE)

    @contextmanager
    def use(self) -> Iterator[Served[M]]:
        """Pin what is current for one request. Do not keep the module beyond it: its tensors will be filled anew.

        Raises NotServing before the first version where there is no base.
        """
        with self._lock:
            slot = self._current
            if slot is None:
                raise NotServing("no version and no packaged base is loaded yet; wait for the follower's first version")
            slot.pins += 1
        began, failed = time.perf_counter(), False
        try:
            yield slot.served
        except Exception:
            failed = True
            raise
        finally:
            with self._lock:
                slot.pins -= 1
            if self.observer is not None:
                self.observer(slot.served.digest, time.perf_counter() - began, failed)

    @property
    def current(self) -> Served[M] | None:
        """What the next request gets; for its facts, not for its module, which only `use` pins."""
        slot = self._current
        return slot.served if slot else None

    @property
    def previous(self) -> Served[M] | None:
        """What `rollback` goes back to."""
        slot = self._previous
        return slot.served if slot else None

    def swap(
        self, folder: Path, version: int | None, digest: str, *, remember: Callable[[], object] = lambda: None
    ) -> Swap[M]:
        """Load, warm up and serve a folder; requests go on meanwhile. On any exception what is served stays.

        `digest` identifies the weights; those of the version before are served at once. `remember` is called when
        all else has succeeded, right before requests get the new version.
        """
        with self._swapping:
            slot, swap = self._prepare(folder, version, digest)
            remember()
            self._flip(slot)
        return swap

    def rollback(self) -> Served[M]:
        """Serve the previous version again, at once. Raises NotServing where none is warm."""
        with self._lock:
            if self._previous is None or self._current is None:
                raise NotServing("no previous version is warm; nothing to go back to")
            self._spares.append(self._current)
            self._current, self._previous = self._previous, None
            return self._current.served

    def _prepare(self, folder: Path, version: int | None, digest: str) -> tuple[_Slot[M], Swap[M]]:
        with self._lock:
            for warm in (self._current, self._previous):
                if warm is not None and warm.served.digest == digest:
                    return warm, Swap(warm.served, 0.0, 0.0, refilled=False)
            spare = next((slot for slot in self._spares if not slot.pins), None)
            if spare is not None:
                self._spares.remove(spare)
        began = time.perf_counter()
        module = self._loader.load(folder, spare.served.module if spare else None)
        loaded = time.perf_counter()
        if self._warm_up is not None:
            self._warm_up(module)
        label = BASE if version is None else f"{version:06d}"
        slot = _Slot(Served(module, version, label, digest, folder))
        refilled = spare is not None and module is spare.served.module
        return slot, Swap(slot.served, loaded - began, time.perf_counter() - loaded, refilled)

    def _flip(self, slot: _Slot[M]) -> None:
        with self._lock:
            if slot is self._current:
                return
            if slot in self._spares:  # a rollback came between the two halves of this swap
                self._spares.remove(slot)
            if self._previous is not None and self._previous is not slot:
                self._spares.append(self._previous)
            self._previous, self._current = self._current, slot
            # A spare that a request still holds is kept until it is free; beyond one, free ones are let go.
            free = [slot for slot in self._spares if not slot.pins]
            self._spares = [slot for slot in self._spares if slot.pins] + free[:1]
