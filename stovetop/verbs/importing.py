"""`stovetop import`: NeuralOS's own interaction logs become sessions like any others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ingest.errors import ClientError
from ingest.imported import APP, Importer, Ledger, Summary
from ingest.importing import log_files
from stovetop.doors import Doors
from stovetop.errors import StovetopError
from stovetop.secrets import Holder, local_token
from stovetop.settings import load_settings
from stovetop.verbs.talking import Config, console


def import_logs(
    path: Annotated[Path, typer.Argument(help="a session_*.jsonl, or a folder that is searched for them")],
    app: Annotated[str, typer.Option("--app", help="what the sessions are posted as")] = APP,
    quiet: Annotated[
        float, typer.Option("--quiet", help="seconds after which a file without an end is complete")
    ] = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
    config: Config = None,
) -> None:
    """Import NeuralOS's interaction logs, each session exactly once, however often this is run."""
    settings = load_settings(config)
    files = log_files(path)
    if not files:
        raise StovetopError(f"{path}: no session_*.jsonl is there; name a log file, or a folder that has some")
    importer = Importer(
        Doors.read(settings).gateway,
        local_token(settings, Holder.OPERATOR),
        Ledger(settings.data / "imported"),
        app=app,
        quiet_seconds=quiet,
        tell=lambda line: print(line, file=sys.stderr),
    )
    try:
        summary = importer.run(files)
    except ClientError as error:
        raise StovetopError(f"{error}; what was imported by then is kept, run it again for the rest") from error
    if as_json:
        print(json.dumps(msgspec.to_builtins(summary, enc_hook=str)))
    else:
        console.print(_told(summary), highlight=False, soft_wrap=True)
    if summary.failed:
        sys.exit(1)


def _told(summary: Summary) -> str:
    parts = [
        f"{summary.sessions} sessions with {summary.steps} steps and {summary.frames} frames from {summary.files} files",
        f"{summary.known} imported before" if summary.known else "",
        f"{len(summary.bad)} bad lines left out" if summary.bad else "",
        f"{len(summary.growing)} files still being written" if summary.growing else "",
        f"{summary.unused_frames} frames belong to no line" if summary.unused_frames else "",
        f"{len(summary.failed)} FAILED" if summary.failed else "",
    ]
    return "; ".join(part for part in parts if part)
