"""The trainer's two links of the way: its mixture and its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control.protocol import DesiredState, RunStatus
from control.server.beats import Beat
from control.server.processes import SETTLING, Trouble, anew, duration
from control.server.sight import Sight, absent, broken, counted, flowing, late, part, said_at
from control.way import Flow, LinkInfo, LinkName


def mixture(sight: Sight) -> LinkInfo:
    """What training draws from."""
    name, beat = LinkName.MIXTURE, sight.heard.mixture
    if beat is None and (sight.processes.get("train") is None or sight.heard.step is not None):
        return absent(name)  # a trainer over other data has steps and no mixture
    away = _trainer_away(sight, name)
    if away is not None:
        return away
    if beat is None:
        return LinkInfo(link=name, flow=Flow.IDLE, heard_at=said_at(_spoke(sight)), note="starting")
    sources: Mapping[str, Any] = beat.body.get("sources") or {}
    rate = sum(float(part(source).get("samples_per_second") or 0.0) for source in sources.values())
    lag = part(sources.get("live")).get("lag_seconds")
    dry = sorted(n for n, s in sources.items() if part(s).get("dry") and part(s).get("weight"))
    note = f"{' and '.join(dry)} dry" if dry else counted(len(sources), "source")
    paused = sight.run.status is RunStatus.PAUSED
    shown = flowing(name, _spoke(sight), 0.0 if paused else rate, "samples/s", lag, "s", note)
    if sources and len(dry) == sum(1 for s in sources.values() if part(s).get("weight")):
        advice = "Training waits. Give weight to a source that has samples, or see why none come."
        return broken(shown, Trouble("Every source with a weight is dry.", advice))
    return late(shown, "What is trained on is old", "More weight on live, or more steps a second, shortens it.")


def step(sight: Sight) -> LinkInfo:
    """Training itself."""
    name, run, beat = LinkName.STEP, sight.run, sight.heard.step
    if sight.trainer is None and beat is None and sight.processes.get("train") is None:
        return absent(name)
    away = _trainer_away(sight, name)
    if away is not None:
        return away
    rate = sight.heard.rates.get("step", 0.0)
    age = sight.now - (_since(sight) if beat is None else beat.at)
    if run.status is not RunStatus.RUNNING:
        note = run.status.value if not run.status.over else f"{run.status.value}: {run.reason}".rstrip(": ")
        return LinkInfo(link=name, flow=Flow.IDLE, rate=0.0, unit="steps/s", note=note, heard_at=said_at(_spoke(sight)))
    shown = flowing(name, _spoke(sight), rate, "steps/s", age, "s", f"step {run.step:,}" if run.step else "")
    return late(shown, "No step was done", "It may evaluate or save; if not, see the sources, and the trainer's log.")


def _trainer_away(sight: Sight, name: LinkName) -> LinkInfo | None:
    seat, run = sight.trainer, sight.run
    away = LinkInfo(link=name, flow=Flow.BROKEN, heard_at=said_at(_spoke(sight)))
    if run.status is RunStatus.CRASHED:
        return broken(away, _supervised(sight, run.reason or "The training failed."))
    if run.status.over or run.desired is DesiredState.STOPPED:
        return away.model_copy(update={"flow": Flow.IDLE, "note": run.status.value})
    heard = _spoke(sight)
    if seat is not None and seat.link is None and not sight.processes.settling:
        return broken(away, _supervised(sight, "The trainer's connection is lost."))
    if (trouble := sight.processes.trouble("train", "trainer", said_at(heard))) is not None:
        return broken(away, trouble)
    if seat is None or seat.link is None:
        return away.model_copy(update={"flow": Flow.IDLE, "note": "starting"})
    waited = sight.processes.overdue(seat.actor.since) if run.status is RunStatus.STARTING else None
    return None if waited is None else broken(away, _not_begun(sight, waited))


def _not_begun(sight: Sight, waited: float) -> Trouble:
    """The trainer's line is there, and its training is not."""
    process = sight.processes.get("train")
    advice = (
        "It loads its model or its data, or hangs there: its log says how far it came. Start it anew if that stands."
    )
    if process is not None and process.pid is not None:
        advice = f"It hangs while it loads: {process.log} says how far it came. {anew(process.pid)}"
    return Trouble(f"The trainer is connected for {duration(waited)}, and its training has not begun.", advice)


def _supervised(sight: Sight, problem: str) -> Trouble:
    seat = sight.trainer
    left = 0.0 if seat is None else min(seat.left_at, sight.now - SETTLING)
    trouble = sight.processes.trouble("train", "trainer", left)
    if trouble is not None and sight.processes.get("train") is not None:
        return trouble
    advice = "Its process or its network is gone. Start the training again: it goes on from its newest checkpoint."
    return Trouble(problem, advice)


def _since(sight: Sight) -> float:
    """Since when this server has the trainer's line."""
    since = sight.now if sight.trainer is None else sight.trainer.actor.since
    return max(since, sight.processes.started)


def _spoke(sight: Sight) -> Beat | None:
    """The trainer's last sign of life."""
    return None if sight.trainer is None or not sight.trainer.heard else Beat(sight.trainer.heard, {})
