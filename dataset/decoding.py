"""From the bytes of a sample to what the model takes, and what to do with samples that do not decode."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dataset.errors import BadSamples

logger = logging.getLogger(__name__)

Decode: TypeAlias = Callable[[Mapping[str, bytes]], Mapping[str, Any]]
"""The app's function from a sample's members (bytes by extension) to tensors by name."""

BAD_LIMIT = 100
"""Samples in a row that may fail to decode before reading ends with an error."""

_TOLD = 20  # skips that each have a line in the log; of those after them only every 20th has


def as_members(members: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The decoder where none was given: the members as they are."""
    return members


class Decoder:
    """Applies a decode function, skips samples that it fails on, and gives up when too many fail in a row.

    With `bad_limit` 0 the first failure is raised.
    """

    def __init__(self, decode: Callable[[Any], Any], bad_limit: int, what: str) -> None:
        self._decode = decode
        self._bad_limit = bad_limit
        self._what = what
        self._in_a_row = 0
        self.skipped = 0

    def __call__(self, raw: Any, key: str) -> Mapping[str, Any] | None:
        """The decoded sample, or None where it is to be skipped. Raises `BadSamples` past the limit."""
        try:
            sample = self._decode(raw)
            if not isinstance(sample, Mapping):
                raise TypeError(
                    f"the sample is a {type(sample).__name__}, but a sample is a mapping by name; "
                    "give a decode function that returns a dict"
                )
        except Exception as error:
            self.skip(key, error)
            return None
        self.succeeded()
        return sample

    def succeeded(self) -> None:
        """A sample decoded: the failures before it were not in a row with those that may follow."""
        self._in_a_row = 0

    def skip(self, key: str, error: Exception) -> None:
        """Count a sample that cannot be used. Raises `BadSamples` past the limit."""
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row > self._bad_limit:
            raise BadSamples(
                f"{self._what}: {self._in_a_row} samples in a row could not be decoded, the last is {key} "
                f"({type(error).__name__}: {error}); mend the decode function or the data, or raise bad_limit "
                f"(now {self._bad_limit})"
            ) from error
        if self.skipped <= _TOLD or self.skipped % _TOLD == 0:
            told = f"{type(error).__name__}: {error}"
            logger.warning("%s: skipped %s, which could not be decoded (%s)", self._what, key, told)
