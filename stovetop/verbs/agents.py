"""`stovetop agent` and `stovetop accept`: the operator's switches for agents, and what agents may do."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from control.agents.limits import ACCEPT, ASK, SET_AGENTS, Limits
from control.agents.settled import FILE, LIMITS
from control.bodies import StateKey
from stovetop.errors import StovetopError
from stovetop.settings import load_settings
from stovetop.verbs.talking import Config, Note, client_of, console, deliver

ALL = "all"
NONE = "none"
SHARES = "shares"


class Switch(StrEnum):
    """What can be done with an agent."""

    ON = "on"
    OFF = "off"
    ACT = "act"
    SUGGEST = "suggest"
    NOW = "now"
    LIMITS = "limits"


Values = Annotated[
    list[str] | None,
    typer.Argument(
        help="with `limits`: max_lr=1e-3 budget=none every=20 commands=update_optimizer,save_checkpoint "
        "shares.live=0.1:0.6; `none` lifts a limit, `file` lets the settings file's hold again; without any, a table"
    ),
]


def agent(
    name: Annotated[str | None, typer.Argument(help="one of them, or `all`; a table of all otherwise")] = None,
    switch: Annotated[
        Switch | None, typer.Argument(help="on, off, act, suggest, now (look at once), or limits")
    ] = None,
    values: Values = None,
    note: Note = "",
    config: Config = None,
) -> None:
    """Show the agents; switch one or all on or off; let one act or only suggest; show and set what one may do."""
    if name is None:
        _table(config)
        return
    if switch is None:
        raise StovetopError(f"say what is to become of {name!r}: on, off, act, suggest, now or limits")
    if values and switch is not Switch.LIMITS:
        raise StovetopError(f"{values[0]!r}: only `limits` takes values, as `stovetop agent {name} limits max_lr=1e-3`")
    if name == ALL:
        if switch not in (Switch.ON, Switch.OFF):
            raise StovetopError(f"`all` can be switched on and off, not to {switch.value!r}")
        deliver(config, SET_AGENTS, {"enabled": switch is Switch.ON}, note)
    elif switch is Switch.NOW:
        deliver(config, ASK, {"agent": name}, note)
    elif switch is Switch.LIMITS:
        known = _of(config, name)
        if values:
            changes = changes_of(values, known.get(LIMITS, {}).get(SHARES, {}))
            deliver(config, SET_AGENTS, {"agents": {name: changes}}, note)
        else:
            _limits(name, known)
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


def changes_of(values: Sequence[str], shares: Mapping[str, Any]) -> dict[str, Any]:
    """What `limits` was given, as `set_agents` takes it. `shares` are the ranges that hold now; those not named stay.

    Raises StovetopError for what cannot be read; whether a value is allowed, the agents say.
    """
    changes: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        head, dot, source = name.partition(".")
        if not equals or not text:
            raise StovetopError(f"{value!r}: say it as name=value, as max_lr=1e-3; `none` lifts a limit")
        if head == SHARES and dot:
            ranges = limits.setdefault(SHARES, dict(shares))
            if not isinstance(ranges, dict):
                raise StovetopError(f"{value!r}: shares are to be {ranges!r} already; say one or the other")
            ranges.pop(source, None)
            if text != NONE:
                ranges[source] = _range(value, text)
        elif name == "every":
            changes[name] = text if text == FILE else _number(value, text)
        elif name not in Limits.model_fields:
            known = ", ".join(["every", *Limits.model_fields])
            raise StovetopError(f"{value!r}: there is no limit {name!r}; these are: {known}")
        else:
            limits[name] = _limit(name, value, text)
    return changes | ({LIMITS: limits} if limits else {})


def _limit(name: str, value: str, text: str) -> Any:
    if text == FILE:
        return FILE
    if name == "commands":
        return [] if text == NONE else [each.strip() for each in text.split(",")]
    if name == SHARES:
        if text == NONE:
            return {}
        raise StovetopError(f"{value!r}: name the source, as shares.live=0.1:0.6")
    return None if text == NONE else _number(value, text)


def _number(value: str, text: str) -> float | int:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise StovetopError(f"{value!r}: {text!r} is no number; as 0.001 or 1e-3")
    return int(number) if number.is_integer() else number


def _range(value: str, text: str) -> list[float]:
    least, colon, most = text.partition(":")
    if not colon:
        raise StovetopError(f"{value!r}: a range has a least and a most, parts of 1, as 0.1:0.6")
    return [_number(value, least), _number(value, most)]


def _of(config: Config, name: str) -> dict[str, Any]:
    """What is known of one agent. Raises StovetopError where there is none of that name."""
    known = _all(config)
    if name not in known:
        raise StovetopError(f"there is no agent {name!r}; there are: {', '.join(known) or 'none'}")
    return known[name]


def _all(config: Config) -> dict[str, dict[str, Any]]:
    settings = load_settings(config)
    with client_of(settings) as client:
        state = client.run(settings.run).state.get(StateKey.AGENTS) or {}
    by_name: dict[str, dict[str, Any]] = state.get("by_name") or {}
    return by_name


def _table(config: Config) -> None:
    by_name = _all(config)
    if not by_name:
        console.print("no agent is there; name some in the settings under `agents`, and run `stovetop agents`")
        return
    table = Table("agent", "state", "spent", "last look", "what it said", "suggests")
    for name, one in by_name.items():
        last = one.get("last") or {}
        said = one.get("held") or last.get("failed") or last.get("resting") or last.get("explanation") or ""
        on = "held" if one.get("held") else one["mode"] if one["enabled"] else "off"
        at = "" if last.get("step") is None else f"step {last['step']}"
        table.add_row(name, on, str(one["spent"]), at, str(said), (one.get("suggestion") or {}).get("id", ""))
    console.print(table)


def _limits(name: str, known: Mapping[str, Any]) -> None:
    """A table of what one agent may do, who said so, and what the settings file says."""
    table = Table("limit", "value", "set by", "settings file", title=name, title_justify="left")
    file, chosen = known[FILE], known["chosen"]
    rows = [("every", "every", known["every"], file["every"])]
    rows += [(limit, f"{LIMITS}.{limit}", value, file[LIMITS][limit]) for limit, value in known[LIMITS].items()]
    for shown, key, value, filed in rows:
        by = chosen.get(key)
        when = "" if by is None else f"{by['author']}, {time.strftime('%d %b %H:%M', time.localtime(by['time']))}"
        table.add_row(shown, _said(value), when, "" if by is None else _said(filed))
    console.print(table)


def _said(value: Any) -> str:
    if value is None or value in ({}, []):
        return NONE
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{source} {least:g}:{most:g}" for source, (least, most) in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
