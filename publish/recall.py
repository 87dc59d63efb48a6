"""What becomes of followers' alarms: a rollback for all, within bounds, and a record of every decision.

A rollback holds its channel, so one bad version costs one rollback, however many followers complain. What is bounded
besides is how often that may happen by itself: beyond, a person decides, since then something else is wrong.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from publish import durable
from publish.alarms import Alarm
from publish.channels import Channels
from publish.errors import ChannelMoved, VersionMissing

FORMAT = 1
KEPT = 1000
"""Records, at most."""
HOUR = 3600.0

logger = logging.getLogger(__name__)


class RecallSettings(BaseModel):
    """`followers` are how many must raise an alarm about one version before the channel goes back; `per_hour` how many
    rollbacks alarms may cause."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    followers: int = Field(1, ge=1)
    per_hour: int = Field(3, ge=0)


class Deed(StrEnum):
    """What was done about an alarm."""

    ROLLED_BACK = "rolled_back"
    WAITING = "waiting"  # for other followers to say the same
    STALE = "stale"  # the channel stands elsewhere by now
    HELD = "held"  # somebody holds the channel at this version on purpose
    EXHAUSTED = "exhausted"  # alarms have caused as many rollbacks as they may in an hour
    OFF = "off"
    NOWHERE = "nowhere"  # there is no version to go back to


class Recall(msgspec.Struct, frozen=True):
    """One decision, as it is recorded. `followers` are those that have complained about the version so far."""

    format: int
    at: float
    alarm: Alarm
    followers: tuple[str, ...]
    deed: Deed
    reason: str


_decode_recall = msgspec.json.Decoder(Recall).decode


class Recalls:
    """Takes alarms in. `root` keeps the decisions, one file each. Called in the publisher's thread."""

    def __init__(
        self, settings: RecallSettings, root: Path, channels: Channels, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._root, self._channels, self._clock = settings, root, channels, clock
        durable.make_folder(root)
        self._number = max((int(path.stem) for path in root.glob("[0-9]*.json")), default=0)

    def take(self, alarm: Alarm, follower: str) -> Recall:
        """Decide on an alarm, do what follows, and record it with its figures. Raises HubError where the channel cannot
        be read or moved now."""
        earlier = self.decisions()
        followers = {
            name
            for recall in earlier
            if (recall.alarm.channel, recall.alarm.version) == (alarm.channel, alarm.version)
            for name in recall.followers
        } | {follower}
        done = [recall for recall in earlier if recall.deed is Deed.ROLLED_BACK and self._clock() - recall.at < HOUR]
        if not self._settings.enabled:
            deed, reason = Deed.OFF, "rollbacks by alarms are switched off; roll back by hand"
        elif len(followers) < self._settings.followers:
            deed, reason = Deed.WAITING, f"{len(followers)} of {self._settings.followers} followers have complained"
        elif self._channels.standing(alarm.channel) != (alarm.version, False):
            deed, reason = self._why_not(alarm)
        elif len(done) >= self._settings.per_hour:
            deed, reason = Deed.EXHAUSTED, f"alarms caused {len(done)} rollbacks within an hour; roll back by hand"
        else:
            deed, reason = self._roll_back(alarm, followers)
        recall = Recall(FORMAT, self._clock(), alarm, tuple(sorted(followers)), deed, reason)
        self._record(recall)
        logger.warning("alarm about version %06d of %s: %s (%s)", alarm.version, alarm.channel, deed.value, reason)
        return recall

    def decisions(self) -> list[Recall]:
        """The recorded ones, oldest first; what is no record, or of another format, is left out."""
        found = []
        for path in sorted(self._root.glob("[0-9]*.json")):
            try:
                recall = _decode_recall(path.read_bytes())
            except (OSError, msgspec.DecodeError, UnicodeDecodeError):
                continue
            if recall.format == FORMAT:
                found.append(recall)
        return found

    def _why_not(self, alarm: Alarm) -> tuple[Deed, str]:
        version, _ = self._channels.standing(alarm.channel)
        if version == alarm.version:
            return Deed.HELD, f"channel {alarm.channel!r} is held at {version:06d} by a person"
        return Deed.STALE, f"channel {alarm.channel!r} stands at {version:06d} by now"

    def _roll_back(self, alarm: Alarm, followers: set[str]) -> tuple[Deed, str]:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in sorted(alarm.figures.items()))
        reason = f"{alarm.reason} ({figures})"
        try:
            moved = self._channels.rollback(
                alarm.channel, by=f"alarm of {', '.join(sorted(followers))}", reason=reason, standing=alarm.version
            )
        except ChannelMoved as error:
            return Deed.STALE, str(error)
        except VersionMissing as error:
            return Deed.NOWHERE, str(error)
        return Deed.ROLLED_BACK, f"to version {moved.pointer.version:06d}: {reason}"

    def _record(self, recall: Recall) -> None:
        self._number += 1
        durable.replace_file(self._root / f"{self._number:010d}.json", msgspec.json.encode(recall), alone=True)
        for old in sorted(self._root.glob("[0-9]*.json"))[:-KEPT]:
            old.unlink(missing_ok=True)
