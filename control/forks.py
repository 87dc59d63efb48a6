"""Keeps forked children (a DataLoader's workers) from holding on to what their parent opened.

A child gets a copy of every descriptor. With a copy of a connection it would hide its parent's death from the other
side, with one of a lock or a listening socket it would keep the parent's successor out, for as long as it lives.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol
from weakref import WeakSet


class Holder(Protocol):
    """Something with descriptors that are this process's alone."""

    def held_descriptors(self) -> Iterable[int]:
        """Those that are open now."""
        ...


_holders: WeakSet[Holder] = WeakSet()


def keep_from_children(holder: Holder) -> None:
    """In every child that is forked from now on, let go of the descriptors that `holder` holds then."""
    _holders.add(holder)


def _let_go() -> None:
    # Overwritten rather than closed: the objects of the child that own these numbers may close them once more.
    nothing = os.open(os.devnull, os.O_RDWR)
    for holder in list(_holders):
        for descriptor in holder.held_descriptors():
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


os.register_at_fork(after_in_child=_let_go)
