"""What `/api/v1` takes and answers: the models that `/openapi.json` is made of, and with it the dashboard's types.

Numbers that are not finite become null wherever they may occur. Times are Unix seconds.
"""

from __future__ import annotations

from control.api.commands import (
    UUID_PATTERN,
    AuditEntry,
    AuditPage,
    CommandDetail,
    CommandPage,
    CommandRecord,
    CommandReport,
    Desired,
    NewCommand,
    NewDesired,
)
from control.api.events import (
    EventPage,
    NewReport,
    ReportAccepted,
    ReportedEvent,
    WatchEvents,
    WatchMessage,
    WatchWelcome,
)
from control.api.runs import (
    ActorCommand,
    ActorInfo,
    BranchInfo,
    CheckpointInfo,
    LastMetrics,
    ModelTree,
    RunDetail,
    RunList,
    RunSummary,
    SegmentInfo,
)
from control.api.samples import NewSample, NewSamples, SampleInfo, SampleList
from control.api.series import Comparison, MetricSeries, SeriesPage
from control.api.service import Live, ProblemBody, Ready
from control.api.versions import ChannelInfo, FollowerInfo, FollowerList, VersionInfo, VersionList
from control.protocol import NAME_PATTERN

__all__ = [
    "NAME_PATTERN",
    "UUID_PATTERN",
    "ActorCommand",
    "ActorInfo",
    "AuditEntry",
    "AuditPage",
    "BranchInfo",
    "ChannelInfo",
    "CheckpointInfo",
    "CommandDetail",
    "CommandPage",
    "CommandRecord",
    "CommandReport",
    "Comparison",
    "Desired",
    "EventPage",
    "FollowerInfo",
    "FollowerList",
    "LastMetrics",
    "Live",
    "MetricSeries",
    "ModelTree",
    "NewCommand",
    "NewDesired",
    "NewReport",
    "NewSample",
    "NewSamples",
    "ProblemBody",
    "Ready",
    "ReportAccepted",
    "ReportedEvent",
    "RunDetail",
    "RunList",
    "RunSummary",
    "SampleInfo",
    "SampleList",
    "SegmentInfo",
    "SeriesPage",
    "VersionInfo",
    "VersionList",
    "WatchEvents",
    "WatchMessage",
    "WatchWelcome",
]
