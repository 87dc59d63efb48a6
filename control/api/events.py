"""Events: asked for, reported, and as a watcher gets them over `WS /api/v1/events`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from control.protocol import NAME_PATTERN, Body, Event, EventType, Frozen


class EventPage(Frozen):
    """Events in order of `seq`. `last` is the cursor to go on from; `more` says that there are others already."""

    events: tuple[Event, ...]
    last: int
    more: bool


class ReportedEvent(Frozen):
    """An event from a reporter that keeps no connection (a pipeline's figures, a follower's heartbeat)."""

    run: str = Field(pattern=NAME_PATTERN)
    type: EventType
    time: float | None = None
    branch: str = "main"
    step: int | None = None
    level: Literal["info", "warning", "error"] = "info"
    body: Body = Field(default_factory=dict)


class NewReport(Frozen):
    """`POST /api/v1/report`."""

    events: tuple[ReportedEvent, ...] = Field(min_length=1, max_length=1000)


class ReportAccepted(Frozen):
    """The events are stored, up to `last`."""

    last: int


class WatchWelcome(Frozen):
    """First message to a watcher. `store` names the event table: with another name, earlier sequence numbers mean
    nothing. `first` is the oldest event that is still kept, `last` the newest."""

    type: Literal["welcome"] = "welcome"
    store: str
    first: int
    last: int


class WatchEvents(Frozen):
    """Events in order. `last` is where to go on from: it also counts those that a filter left out."""

    type: Literal["events"] = "events"
    last: int
    events: tuple[Event, ...]


WatchMessage = Annotated[WatchWelcome | WatchEvents, Field(discriminator="type")]
