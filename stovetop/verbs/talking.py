"""What all verbs share: where the settings are, how the control server is asked, and how an outcome is shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from control import ControlClient, NoOutcome, Outcome
from control.api import CommandRecord
from stovetop.errors import StovetopError
from stovetop.settings import Settings, load_settings

PIPE_WIDTH = 240
"""Columns where nobody looks: a table of many columns stays one line an entry."""

console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="the settings file; ./stovetop.toml otherwise")]
Note = Annotated[str, typer.Option("--note", "-m", help="why; kept with the command")]


def client_of(settings: Settings) -> ControlClient:
    """A client of the control server with the operator's token."""
    from stovetop.doors import Doors
    from stovetop.secrets import Holder, local_token

    return ControlClient(Doors.read(settings).control, local_token(settings, Holder.OPERATOR))


def deliver(
    config: Path | None, command: str, arguments: dict[str, Any], note: str, *, dry_run: bool = False
) -> CommandRecord:
    """Send a command, wait for its outcome and show it; ends the process with 1 where it is not a success."""
    settings = load_settings(config)
    with client_of(settings) as client:
        try:
            record = client.send(command, arguments, run=settings.run, note=note, dry_run=dry_run)
        except NoOutcome as waiting:
            raise StovetopError(str(waiting)) from None
    show_outcome(record)
    if record.outcome is not Outcome.SUCCESS:
        sys.exit(1)
    return record


def show_outcome(record: CommandRecord) -> None:
    """One line: what became of a command."""
    assert record.outcome is not None
    colour = "green" if record.outcome is Outcome.SUCCESS else "red"
    parts = [f"[{colour}]{record.outcome.value}[/{colour}] {record.command}"]
    if record.step is not None:
        parts.append(f"at step {record.step}")
    if record.takes_effect_at is not None:
        parts.append(f"from step {record.takes_effect_at} on")
    if record.before is not None or record.after is not None:
        parts.append(f"{json.dumps(record.before)} → {json.dumps(record.after)}")
    if record.reason:
        parts.append(f"({record.reason})")
    console.print(" ".join(parts), soft_wrap=True)
