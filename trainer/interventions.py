"""What was done to a segment from outside, and after which step: the record that a replay follows.

One line of JSON a command that was carried out, in `commands.jsonl` of the segment's folder. The control server has the
same with all who wanted it and why; this one also has settings that were made again after a death, stands at the exact
step of the exact segment, and needs no server.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

FILE = "commands.jsonl"

logger = logging.getLogger(__name__)


class Intervention(msgspec.Struct, frozen=True):
    """A command that was carried out after the completed step `step`; `again`: one that held and was lost with a death."""

    step: int
    number: int
    uuid: str
    command: str
    arguments: Mapping[str, Any]
    again: bool = False


_decode_intervention = msgspec.json.Decoder(Intervention).decode


def note(segment: Path, intervention: Intervention) -> None:
    """Append to a segment's record. What cannot be written costs the line, not the training."""
    try:
        with (segment / FILE).open("ab") as file:
            file.write(msgspec.json.encode(intervention) + b"\n")
    except OSError as error:
        logger.error("%s: cannot be written (%s); a replay will lack %s", segment / FILE, error, intervention.command)


def interventions(segment: Path) -> list[Intervention]:
    """The record of one segment, in the order in which it happened; a torn last line is left out."""
    try:
        stored = (segment / FILE).read_bytes()
    except FileNotFoundError:
        return []
    lines = stored.split(b"\n")
    return [_decode_intervention(line) for line in lines[:-1] if line]
