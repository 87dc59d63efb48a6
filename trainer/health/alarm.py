"""A finding is said when it begins, and again only after it had passed."""

from __future__ import annotations


class Alarm:
    """Which findings stand now, by check and layer."""

    def __init__(self) -> None:
        self._standing: set[tuple[str, str]] = set()

    def new(self, check: str, where: str, wrong: bool) -> bool:
        """Whether this is to be said: it is wrong, and was not when it was looked at last."""
        key = check, where
        if not wrong:
            self._standing.discard(key)
            return False
        if key in self._standing:
            return False
        self._standing.add(key)
        return True
