"""Randomness without a state: every number is a function of what it is for.

Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) is keyed by the purpose and counted by the
index, so any number can be had at any time, in any order, in any process. Only its raw 64-bit words are used: numpy
keeps those the same for ever, which it does not promise of `Generator.random` or `permutation` (NEP 19).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096
_KEPT = 8  # blocks: of redraws only the first few attempts are ever read
_UNIT = 2.0**-53


def key_of(*purpose: object) -> NDArray[np.uint64]:
    """128 bits that tell purposes apart, whatever their parts are (`("a", 1)` and `("a1",)` are two)."""
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def seed_of(*purpose: object) -> int:
    """A seed of 63 bits for a purpose."""
    return int(key_of(*purpose)[0] >> np.uint64(1))


def words(key: NDArray[np.uint64], first: int, count: int, attempt: int = 0) -> NDArray[np.uint64]:
    """The words `first` (a multiple of 4) to `first + count` of a key."""
    # numpy counts up before it makes the first four words; both run over the same counters, one apart.
    counter = np.array([first // 4, 0, attempt, 0], dtype=np.uint64)
    raw: Any = np.random.Philox(counter=counter, key=key).random_raw(count)
    return np.asarray(raw, dtype=np.uint64)


class Uniforms:
    """Numbers in [0, 1) by index and attempt, made in blocks."""

    def __init__(self, *purpose: object) -> None:
        self._key = key_of(*purpose)
        self._blocks: dict[tuple[int, int], NDArray[np.float64]] = {}

    def at(self, index: int, attempt: int = 0) -> float:
        """The number of one index; further attempts at the same index are independent of the first."""
        block, place = divmod(index, BLOCK)
        return float(self.block(block, attempt)[place])

    def block(self, number: int, attempt: int = 0) -> NDArray[np.float64]:
        """The numbers of the indices [number * BLOCK, (number + 1) * BLOCK)."""
        made = self._blocks.get((number, attempt))
        if made is None:
            raw = words(self._key, number * BLOCK, BLOCK, attempt) >> np.uint64(11)
            made = np.asarray(raw * _UNIT, dtype=np.float64)
            if len(self._blocks) >= _KEPT:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[number, attempt] = made
        return made


def permutation(count: int, *purpose: object) -> NDArray[np.int64]:
    """An order of 0 … count - 1, the same for the same purpose; memory: 8 bytes an element."""
    return np.argsort(words(key_of(*purpose), 0, count), kind="stable")
