"""How channels move: forward by themselves, anywhere by an operator, one compare-and-swap each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from publish.catalogue import Catalogue, Known
from publish.errors import ChannelMoved, VersionMissing
from publish.hub import Hub
from publish.pointer import Pointer, unset
from publish.signing import SigningKey

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moved:
    """A channel went from one version (None: it was unset) to another, or was held or released where it stood."""

    before: int | None
    pointer: Pointer


class Channels:
    """Moves channels of one hub in the name of one key."""

    def __init__(
        self, hub: Hub, key: SigningKey, catalogue: Catalogue, tell: Callable[[Moved], None] = lambda moved: None
    ) -> None:
        self._hub = hub
        self._key = key
        self._catalogue = catalogue
        self._tell = tell

    def advance(self, channel: str, known: Known) -> Moved | None:
        """Go forward to a version; None where the channel is held, or stands there or further already."""

        def decide(now: Pointer) -> Known | None:
            return None if now.held or now.version >= known.manifest.version else known

        return self._move(channel, decide, held=False, by="publisher", reason=f"step {known.manifest.step}")

    def promote(self, channel: str, version: int | None = None, *, by: str, reason: str = "") -> Moved:
        """Point at `version` (None: the newest that has files) and release the channel if it was held."""
        return self._must(
            channel, lambda now: self._newest() if version is None else self._read(channel, version), False, by, reason
        )

    def rollback(
        self, channel: str, version: int | None = None, *, by: str, reason: str = "", standing: int | None = None
    ) -> Moved:
        """Go back to `version` (None: the one before) and hold the channel there until somebody promotes or releases.

        Raises VersionMissing where there is nothing to go back to, and ChannelMoved where the channel does not stand at
        `standing`, if that is given: a complaint about one version takes no other back.
        """

        def decide(now: Pointer) -> Known:
            if standing is not None and now.version != standing:
                raise ChannelMoved(
                    f"channel {channel!r}: it stands at {now.version:06d}, not at {standing:06d} any more"
                )
            target = now.previous if version is None else version
            if target is None or target >= now.version:
                raise VersionMissing(
                    f"channel {channel!r}: it stands at version {now.version:06d} and "
                    + ("remembers none before it" if target is None else f"{target:06d} is not older")
                    + "; name an older one"
                )
            return self._read(channel, target)

        return self._must(channel, decide, True, by, reason)

    def pin(self, channel: str, version: int | None = None, *, by: str, reason: str = "") -> Moved:
        """Hold the channel at `version` (None: where it stands)."""
        return self._must(
            channel, lambda now: self._read(channel, now.version if version is None else version), True, by, reason
        )

    def release(self, channel: str, *, by: str, reason: str = "") -> Moved:
        """Let the next version move the channel again; it stays where it stands until then."""
        return self._must(channel, lambda now: self._read(channel, now.version), False, by, reason)

    def standing(self, channel: str) -> tuple[int, bool]:
        """The version that a channel names (0: it was never set), and whether it is held there."""
        now = self._hub.channel(channel) or unset(channel)
        return now.version, now.held

    def _newest(self) -> Known:
        versions = self._hub.versions()
        if not versions:
            raise VersionMissing(f"{self._hub.name}: no version was published yet")
        return self._catalogue.read(versions[-1])

    def _read(self, channel: str, version: int) -> Known:
        if version < 1:
            raise VersionMissing(f"channel {channel!r}: it was never set; name a version")
        return self._catalogue.read(version)

    def _must(self, channel: str, decide: Callable[[Pointer], Known], held: bool, by: str, reason: str) -> Moved:
        moved = self._move(channel, decide, held=held, by=by, reason=reason)
        assert moved is not None, "every operator's move is decided"
        return moved

    def _move(
        self, channel: str, decide: Callable[[Pointer], Known | None], *, held: bool, by: str, reason: str
    ) -> Moved | None:
        while True:
            now = self._hub.channel(channel) or unset(channel)
            known = decide(now)
            if known is None:
                return None
            version = known.manifest.version
            following = now.moved(version, known.digest, held=held, at=time.time(), by=by, reason=reason)
            signed = self._key.sign(following)
            try:
                self._hub.move(signed)
            except ChannelMoved:
                continue  # somebody was first; decide again from where they left it
            moved = Moved(now.version or None, signed)
            logger.info("channel %s: %s -> %06d (%s)", channel, now.version, version, reason)
            self._tell(moved)
            return moved
