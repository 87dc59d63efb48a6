"""`stovetop follow`: a link that always leads to the newest verified version, for any program that loads a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from publish import DirectoryHub, Follower, LiveModel
from stovetop.doors import Doors
from stovetop.errors import ConfigurationError
from stovetop.play import stop_on_signals
from stovetop.settings import Settings


class LinkedFolder:
    """A `publish.Loader` that loads nothing: it moves a symbolic link to the folder, in one step."""

    def __init__(self, link: Path, say: Callable[[str], None]) -> None:
        self._link = link
        self._say = say

    def load(self, folder: Path, spare: Path | None) -> Path:
        """Point the link at `folder`."""
        staged = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        staged.unlink(missing_ok=True)
        staged.symlink_to(folder.absolute())
        os.replace(staged, self._link)
        self._say(f"{self._link} → {folder}")
        return folder


def follow_into(settings: Settings, link: Path, say: Callable[[str], None]) -> None:
    """Follow until told to stop. The keys that are trusted are those of the settings, or this service's own."""
    if link.exists() and not link.is_symlink():
        raise ConfigurationError(f"{link}: it exists and is no link; name a place where a link may be made")
    chosen = settings.follow
    keys = chosen.trusted_keys or (Doors.read(settings).public_key,)
    link.parent.mkdir(parents=True, exist_ok=True)
    live: LiveModel[Path] = LiveModel(LinkedFolder(link, say), chosen.base)
    follower = Follower(
        DirectoryHub(chosen.hub),
        chosen.channel,
        keys,
        chosen.cache,
        live,
        heartbeat=chosen.heartbeat,
        longest_wait=chosen.longest_wait,
    )
    stop = stop_on_signals()
    follower.start()
    stop.wait()
    follower.close()
