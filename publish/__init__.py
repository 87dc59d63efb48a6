"""Versions of weights, from a checkpoint to the process that serves them.

The way: `put` (trainer) → `Outbox` → `Publisher` → `Hub` → `Follower` → `LiveModel` (serving). Every version is stored
in full, as any client loads it; beside it lies what has changed since the one before, which is all that a follower
fetches as long as that is less.

This room promises that a version is whole or absent: a reader sees every file of it, verified against a manifest
that a key of the reader's own configuration signed, or nothing. Numbers are never used twice; a channel moves by
compare-and-swap; a swap drops no request and mixes none; and every part may be killed at any point and started
again.

Import the loaders, which need torch, from `publish.loading`.
"""

from __future__ import annotations

from publish.alarms import Alarm, Alarms, AlarmSettings
from publish.channels import Channels, Moved
from publish.courier import Courier
from publish.directory import DirectoryHub
from publish.errors import (
    CacheLocked,
    ChannelMoved,
    DigestMismatch,
    FileNotAllowed,
    HubAddressTaken,
    HubError,
    HubUnavailable,
    KeyFileInvalid,
    NotServing,
    OutboxError,
    OutboxLocked,
    PublishError,
    Replayed,
    Unreadable,
    Untrusted,
    VerificationError,
    VersionMissing,
    VersionTaken,
    WeightsMismatch,
)
from publish.follower import Follower, ServedFrom, Status
from publish.gate import Decision, Evaluation, Gate, GateSettings
from publish.http_hub import HttpHub
from publish.hub import Hub, ReadableHub
from publish.live_model import LiveModel, Loader, Served, Swap
from publish.manifest import Base, FileDigest, Manifest, Tensor, decode_manifest
from publish.outbox import Ancestor, Entry, Outbox, Placed, Ticket, put
from publish.pointer import Pointer
from publish.publisher import Coalesced, Failed, Judged, Published, Publisher, PublisherEvent, Retired
from publish.recall import Deed, Recall, Recalls, RecallSettings
from publish.settings import FollowSettings, HubSettings, PublishSettings
from publish.signing import PublicKey, SigningKey, TrustedKeys, older_keys

__all__ = [
    "Alarm",
    "AlarmSettings",
    "Alarms",
    "Ancestor",
    "Base",
    "CacheLocked",
    "ChannelMoved",
    "Channels",
    "Coalesced",
    "Courier",
    "Decision",
    "Deed",
    "DigestMismatch",
    "DirectoryHub",
    "Entry",
    "Evaluation",
    "Failed",
    "FileDigest",
    "FileNotAllowed",
    "FollowSettings",
    "Follower",
    "Gate",
    "GateSettings",
    "HttpHub",
    "Hub",
    "HubAddressTaken",
    "HubError",
    "HubSettings",
    "HubUnavailable",
    "Judged",
    "KeyFileInvalid",
    "LiveModel",
    "Loader",
    "Manifest",
    "Moved",
    "NotServing",
    "Outbox",
    "OutboxError",
    "OutboxLocked",
    "Placed",
    "Pointer",
    "PublicKey",
    "PublishError",
    "PublishSettings",
    "Published",
    "Publisher",
    "PublisherEvent",
    "ReadableHub",
    "Recall",
    "RecallSettings",
    "Recalls",
    "Replayed",
    "Retired",
    "Served",
    "ServedFrom",
    "SigningKey",
    "Status",
    "Swap",
    "Tensor",
    "Ticket",
    "TrustedKeys",
    "Unreadable",
    "Untrusted",
    "VerificationError",
    "VersionMissing",
    "VersionTaken",
    "WeightsMismatch",
    "decode_manifest",
    "older_keys",
    "put",
]
