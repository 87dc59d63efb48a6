"""`stovetop agent` and `stovetop accept`: the operator's switches for agents."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from control.agents.host import ACCEPT, ASK, SET_AGENTS
from control.bodies import StateKey
from stovetop.errors import StovetopError
from stovetop.settings import load_settings
from stovetop.verbs.talking import Config, Note, client_of, console, deliver

ALL = "all"


class Switch(StrEnum):
    """What can be done with an agent."""

    ON = "on"
    OFF = "off"
    ACT = "act"
    SUGGEST = "suggest"
    NOW = "now"


def agent(
    name: Annotated[str | None, typer.Argument(help="one of them, or `all`; a table of all otherwise")] = None,
    switch: Annotated[Switch | None, typer.Argument(help="on, off, act, suggest, or now (look at once)")] = None,
    note: Note = "",
    config: Config = None,
) -> None:
    """Show the agents; switch one or all on or off; let one act or only suggest."""
    if name is None:
        _table(config)
        return
    if switch is None:
        raise StovetopError(f"say what is to become of {name!r}: on, off, act, suggest or now")
    if name == ALL:
        if switch not in (Switch.ON, Switch.OFF):
            raise StovetopError(f"`all` can be switched on and off, not to {switch.value!r}")
        deliver(config, SET_AGENTS, {"enabled": switch is Switch.ON}, note)
    elif switch is Switch.NOW:
        deliver(config, ASK, {"agent": name}, note)
    else:
        one = {"enabled": switch is Switch.ON} if switch in (Switch.ON, Switch.OFF) else {"mode": switch.value}
        deliver(config, SET_AGENTS, {"agents": {name: one}}, note)


def accept(
    suggestion: Annotated[str, typer.Argument(help="as `stovetop agent` shows it")],
    note: Note = "",
    config: Config = None,
) -> None:
    """Do what an agent suggested, in one's own name."""
    deliver(config, ACCEPT, {"suggestion": suggestion}, note)


def _table(config: Config) -> None:
    settings = load_settings(config)
    with client_of(settings) as client:
        state = client.run(settings.run).state.get(StateKey.AGENTS) or {}
    by_name: dict[str, dict[str, Any]] = state.get("by_name") or {}
    if not by_name:
        console.print("no agent is there; name some in the settings under `agents`, and run `stovetop agents`")
        return
    table = Table("agent", "state", "spent", "last look", "what it said", "suggests")
    for name, one in by_name.items():
        last = one.get("last") or {}
        said = last.get("failed") or last.get("resting") or last.get("explanation") or ""
        on = one["mode"] if one["enabled"] else "off"
        at = "" if last.get("step") is None else f"step {last['step']}"
        table.add_row(name, on, str(one["spent"]), at, str(said), (one.get("suggestion") or {}).get("id", ""))
    console.print(table)
