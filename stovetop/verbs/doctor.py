"""`stovetop doctor`: looks at everything that a service needs, and says what to do about what is not as it should be."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import msgspec
import typer

from stovetop.diagnosis import State, diagnose
from stovetop.settings import load_settings
from stovetop.verbs.talking import Config, console

COLOURS = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False, config: Config = None
) -> None:
    """Check packages, libraries, limits, disks, clocks, ports, secrets, the log and the archive.

    Ends with 1 where something is broken; a warning is none.
    """
    findings = []
    for finding in diagnose(load_settings(config)):
        findings.append(finding)
        if not as_json:
            colour = COLOURS[finding.state]
            line = f"[{colour}]{finding.state.value:4}[/{colour}] {finding.check}: {finding.what}"
            console.print(line, highlight=False, soft_wrap=True)
            if finding.way_out:
                console.print(f"     → {finding.way_out}", highlight=False, soft_wrap=True, markup=False)
    broken = any(finding.state is State.FAIL for finding in findings)
    if as_json:
        print(json.dumps({"healthy": not broken, "findings": msgspec.to_builtins(findings)}))
    if broken:
        sys.exit(1)
