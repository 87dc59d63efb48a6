"""`stovetop release`: a channel that a rollback or a pin holds may move again."""

from __future__ import annotations

from typing import Annotated

import typer

from control import CommandName
from stovetop.verbs.talking import Config, Note, deliver


def release(
    channel: Annotated[str, typer.Option("--channel", help="the pointer that is held")] = "stable",
    note: Note = "",
    config: Config = None,
) -> None:
    """Let the next version move a channel that a rollback or a pin holds; it stays where it is until then."""
    deliver(config, CommandName.RELEASE_CHANNEL, {"channel": channel}, note)
