"""A channel's pointer: which version it names now, signed, and how it came there.

`generation` grows by one with every move, so a pointer that was shown before is recognised when it is shown again.
`lowered_at` is the last generation at which the channel went to an older version on purpose: a reader that has seen
generation G goes back only for a pointer with `lowered_at` > G, also when it slept through the move itself.
"""

from __future__ import annotations

import re
from typing import Self

import msgspec

from publish.errors import Replayed, Unreadable

FORMAT = 1
HISTORY = 4
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Pointer(msgspec.Struct, frozen=True):
    """Where a channel stands. `history` holds the versions that it pointed at before, the latest last; a rollback
    takes the latest of them. While `held`, only an operator moves the channel. `moved_at` is in Unix seconds."""

    format: int
    channel: str
    generation: int
    version: int
    manifest_sha256: str
    history: tuple[int, ...] = ()
    lowered_at: int = 0
    held: bool = False
    moved_at: float = 0.0
    moved_by: str = ""
    reason: str = ""
    key_id: str = ""
    signature: str = ""

    @property
    def previous(self) -> int | None:
        """The version that a rollback goes to."""
        return self.history[-1] if self.history else None

    def canonical(self) -> bytes:
        """The bytes that are signed: sorted JSON without the signature."""
        stored = msgspec.to_builtins(self)
        del stored["signature"]
        return msgspec.json.encode(stored, order="sorted")

    def moved(self, version: int, manifest_sha256: str, *, held: bool, at: float, by: str, reason: str) -> Self:
        """The unsigned pointer that follows this one."""
        back = version < self.version
        if back:
            history = tuple(number for number in self.history if number < version)
        elif version == self.version:
            history = self.history
        else:
            history = (*self.history, self.version)[-HISTORY:] if self.version else ()
        return type(self)(
            format=FORMAT,
            channel=self.channel,
            generation=self.generation + 1,
            version=version,
            manifest_sha256=manifest_sha256,
            history=history,
            lowered_at=self.generation + 1 if back else self.lowered_at,
            held=held,
            moved_at=at,
            moved_by=by,
            reason=reason,
        )

    def check_order(self, generation: int, version: int) -> None:
        """Return if a reader that obeyed `generation`, which named `version`, may obey this one. Raises Replayed."""
        if self.generation < generation:
            raise Replayed(
                f"channel {self.channel!r}: generation {self.generation} is shown, {generation} was seen; "
                "if the hub was restored from a backup, delete the follower's state.json"
            )
        if self.generation == generation and self.version != version:
            raise Replayed(f"channel {self.channel!r}: generation {generation} was seen with version {version:06d}")
        if self.version < version and self.lowered_at <= generation:
            raise Replayed(
                f"channel {self.channel!r}: version {self.version:06d} is older than {version:06d}, "
                "and nobody rolled the channel back"
            )


_decode_pointer = msgspec.json.Decoder(Pointer).decode


def check_channel(channel: str) -> None:
    """Raise ValueError unless this can name a channel, a file and a branch."""
    if not _NAME.fullmatch(channel):
        raise ValueError(
            f"channel {channel!r}: a name is 1 to 64 of a-z, 0-9, - and _, and begins with a letter or digit"
        )


def decode_pointer(stored: bytes, where: str, way_out: str = "") -> Pointer:
    """A pointer as a hub keeps or tells it, not verified. Raises Unreadable, with the way out of a damaged one."""
    try:
        found = _decode_pointer(stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"{where}: not a channel pointer ({error}){way_out and '; '}{way_out}") from error
    if found.format != FORMAT:
        raise Unreadable(f"{where}: a pointer of format {found.format}; only {FORMAT} is known here")
    return found


def unset(channel: str) -> Pointer:
    """The state before a channel's first move: generation 0, version 0, which is no version."""
    return Pointer(format=FORMAT, channel=channel, generation=0, version=0, manifest_sha256="")
