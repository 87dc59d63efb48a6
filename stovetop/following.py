"""`stovetop follow`: a link that always leads to the newest verified version, for any program that loads a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from publish import Follower, LiveModel, Status
from publish.places import followers_hub
from stovetop.doors import Doors
from stovetop.errors import ConfigurationError
from stovetop.play import stop_on_signals
from stovetop.settings import Settings
from stovetop.word import word_of


class Folders:
    """A `publish.Loader` that loads nothing: what serves a version is its folder."""

    def load(self, folder: Path, spare: Path | None) -> Path:
        """The folder itself."""
        return folder


def point(link: Path, folder: Path) -> bool:
    """Lead `link` to `folder` in one step; False where it leads there already."""
    target = str(folder.absolute())
    if link.is_symlink() and os.readlink(link) == target:
        return False
    staged = link.with_name(f".{link.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    staged.symlink_to(target)
    os.replace(staged, link)
    return True


def follow_into(settings: Settings, link: Path, say: Callable[[str], None]) -> None:
    """Follow until told to stop. The keys that are trusted are those of the settings, or this service's own."""
    if link.exists() and not link.is_symlink():
        raise ConfigurationError(f"{link}: it exists and is no link; name a place where a link may be made")
    chosen = settings.follow
    keys = chosen.trusted_keys or (Doors.read(settings).public_key,)
    link.parent.mkdir(parents=True, exist_ok=True)
    live: LiveModel[Path] = LiveModel(Folders(), chosen.base)
    word = word_of(settings)

    def lead(status: Status) -> None:
        if word is not None:
            word.status(status)
        # Not in the loader: on a rollback the version before is still warm, and nothing is loaded.
        if live.current is not None and point(link, live.current.folder):
            say(f"{link} → {live.current.folder}")

    follower = Follower(
        followers_hub(chosen),
        chosen.channel,
        keys,
        chosen.cache,
        live,
        tell=lead,
        heartbeat=chosen.heartbeat,
        longest_wait=chosen.longest_wait,
    )
    stop = stop_on_signals()
    follower.start()
    stop.wait()
    follower.close()
    if word is not None:
        word.close()
