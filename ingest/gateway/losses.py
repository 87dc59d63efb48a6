"""How long to leave a share alone that another gateway took away: the longer, the more often it did.

A gateway whose spool holds steps of a share takes it by force until the log has them. Where everything is slow, the one
that lost it may take it back before that is done, and so on for ever: each of the two fences the other.
"""

from __future__ import annotations

RETRY = 1.0
"""Seconds until a share that could not be had is asked for again."""
LONGEST = 16.0
"""Seconds that a share is left alone at most."""
FORGIVEN = 60.0
"""Seconds after which a loss counts no more."""


class Losses:
    """Of each share how often it was lost in a row, and when it was last."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[int, float]] = {}

    def pause(self, share: int, now: float) -> float:
        """Note that a share was lost `now`, and tell for how many seconds to leave it alone."""
        count, last = self._of.get(share, (0, now))
        count = count + 1 if now - last < FORGIVEN else 1
        self._of[share] = count, now
        return float(min(RETRY * 2 ** (count - 1), LONGEST))
