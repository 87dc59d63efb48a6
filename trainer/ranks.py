"""What the ranks of one training tell each other between two steps.

Only rank 0 talks to the control server. What every rank needs each step is a handful of numbers, summed in one small
collective; texts (commands as JSON) follow only when the numbers say that there are some. A gloo group of its own keeps
this apart from the gradients, also where those travel over NCCL.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

TIMEOUT = timedelta(days=1)
"""Long: while one rank saves a large checkpoint the others wait here. A pause does not need it, it sends heartbeats."""


class Ranks:
    """The ranks of one training; with one, every call returns at once."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world
        self._group = dist.new_group(backend="gloo", timeout=TIMEOUT) if world > 1 else None

    @property
    def main(self) -> bool:
        """Whether this is the rank that talks to the control server and writes what all share."""
        return self.rank == 0

    def total(self, numbers: Sequence[float]) -> list[float]:
        """The sums over all ranks, the same on each."""
        if self.world == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(tensor, group=self._group)
        return [float(number) for number in tensor]

    def least(self, number: int) -> int:
        """The smallest over all ranks, the same on each."""
        if self.world == 1:
            return number
        tensor = torch.tensor(number, dtype=torch.int64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MIN, group=self._group)
        return int(tensor)

    def share(self, text: str, source: int = 0) -> str:
        """The text of one rank, on each."""
        if self.world == 1:
            return text
        data = text.encode() if self.rank == source else b""
        length = torch.tensor(len(data), dtype=torch.int64)
        dist.broadcast(length, src=source, group=self._group)
        if not int(length):
            return ""
        buffer = torch.frombuffer(bytearray(data or bytes(int(length))), dtype=torch.uint8)
        dist.broadcast(buffer, src=source, group=self._group)
        return bytes(buffer.numpy()).decode()

    def gather(self, text: str) -> list[str]:
        """The texts of all ranks in order of rank, on each."""
        return [self.share(text, source) for source in range(self.world)]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            dist.barrier(group=self._group)
