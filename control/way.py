"""The way of one click, link by link: what `/api/v1/runs/{run}/way` answers."""

from __future__ import annotations

from enum import StrEnum

from control.protocol import Frozen


class LinkName(StrEnum):
    """The links, in the order in which a click passes them."""

    GATEWAY = "gateway"
    LOG = "log"
    SAMPLES = "samples"
    SHARDS = "shards"
    MIXTURE = "mixture"
    STEP = "step"
    VERSION = "version"
    SERVED = "served"


class Flow(StrEnum):
    """How a link does."""

    FLOWS = "flows"
    IDLE = "idle"  # nothing to do, or people want it so
    BEHIND = "behind"  # it works, later or less than it should
    BROKEN = "broken"  # nothing passes before somebody or something mends it
    ABSENT = "absent"  # not a part of this run


class LinkInfo(Frozen):
    """One link. `rate` is per second in `unit`, `lag` in `lag_unit`; None where the link has none or did not tell.

    `heard_at` is when its process last said anything. `problem` and `advice` (what to do) are set where it is broken or
    behind.
    """

    link: LinkName
    flow: Flow
    rate: float | None = None
    unit: str = ""
    lag: float | None = None
    lag_unit: str = ""
    heard_at: float | None = None
    note: str = ""
    problem: str = ""
    advice: str = ""


class WayInfo(Frozen):
    """The whole way at `time`, in order."""

    run: str
    time: float
    links: tuple[LinkInfo, ...]
