"""How samples are loaded ahead of the mixture: by how many workers, how far, and what becomes of one that hangs."""

from __future__ import annotations

from dataclasses import dataclass

from dataset.errors import LayoutError

AHEAD_BYTES = 64 << 20
WORKER_TIMEOUT = 300.0
WORKER_PATIENCE = 30.0


@dataclass(frozen=True)
class Loading:
    """`workers` processes (0: none, all is loaded where it is mixed), which hold up to `ahead_bytes` of decoded samples
    that were not asked for yet.

    Seconds are counted while a worker is waited for and says nothing: after `patience` of them, others load what waits
    behind what it hangs over; after `timeout` it is ended and replaced (None: never).
    """

    workers: int = 0
    ahead_bytes: int = AHEAD_BYTES
    timeout: float | None = WORKER_TIMEOUT
    patience: float = WORKER_PATIENCE

    def __post_init__(self) -> None:
        if self.workers < 0 or self.ahead_bytes < 1:
            raise LayoutError(
                f"workers is {self.workers} and ahead_bytes is {self.ahead_bytes}, but there are at least 0 workers, and "
                "they load at least 1 byte ahead; to load in this process, set workers to 0"
            )
        if self.timeout is not None and not self.timeout > 0:
            raise LayoutError(
                f"worker_timeout is {self.timeout}, but it is above 0 seconds; None waits for a worker for ever"
            )
        if not self.patience > 0:
            raise LayoutError(
                f"worker_patience is {self.patience}, but it is above 0 seconds; inf lets no other worker help out"
            )
