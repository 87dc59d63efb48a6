"""Published weights, the channels that point at them, and who serves them."""

from __future__ import annotations

from pydantic import Field

from control.api.samples import SampleInfo
from control.protocol import Frozen


class VersionInfo(Frozen):
    """A version of the weights, and the channels that point at it now. `parent` is the version before it along its
    branch, `evaluation` what the trainer measured last before it, `samples` what it paints, where that is kept."""

    run: str
    version: int
    branch: str
    segment: str
    step: int | None
    time: float
    action: str
    reason: str = ""
    bytes: int | None = None
    channels: tuple[str, ...] = ()
    parent: int | None = None
    evaluation: dict[str, float] = Field(default_factory=dict)
    samples: tuple[SampleInfo, ...] = ()


class ChannelInfo(Frozen):
    """A pointer to a version. While `held`, new versions do not move it."""

    run: str
    channel: str
    version: int
    time: float
    held: bool


class VersionList(Frozen):
    """Versions, newest first, and the channels."""

    versions: tuple[VersionInfo, ...]
    channels: tuple[ChannelInfo, ...]


class FollowerInfo(Frozen):
    """A server of weights, as of its last heartbeat at `time`."""

    run: str
    follower: str
    version: int | None
    channel: str
    time: float
    loaded_at: float | None = None
    error: str = ""
    lag_seconds: float | None = None
    swaps: int | None = None


class FollowerList(Frozen):
    """Followers by name."""

    followers: tuple[FollowerInfo, ...]
