"""The way of one click of a run, as it stands now: each link's flow, rate and lag, and what to do where it is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control.api import ChannelInfo, VersionInfo
from control.protocol import ActorKind, DesiredState, RunStatus
from control.server.beats import Beat, Heard
from control.server.processes import SETTLING, Processes, Trouble
from control.server.roster import Seat
from control.store.runs import StoredRun
from control.way import Flow, LinkInfo, LinkName

LATE = 60.0
"""Seconds of lag from which a link counts as behind."""

FORGOTTEN = 3600.0
"""Seconds after which a server of the weights that is not heard any more is taken to be gone for good."""


@dataclass(frozen=True)
class Sight:
    """Everything that the links are judged by."""

    run: StoredRun
    heard: Heard
    processes: Processes
    trainer: Seat | None
    publisher: Seat | None
    channels: tuple[ChannelInfo, ...]
    newest: VersionInfo | None

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self.processes.now


def links(sight: Sight) -> tuple[LinkInfo, ...]:
    """All eight, in order."""
    return (
        _gateway(sight),
        _log(sight),
        _samples(sight),
        _shards(sight),
        _mixture(sight),
        _step(sight),
        _version(sight),
        _served(sight),
    )


def publisher_of(seats: list[Seat]) -> Seat | None:
    """The publisher among a run's actors."""
    return next((seat for seat in seats if seat.actor.kind == ActorKind.PUBLISHER), None)


# From the app to the shards: parts that report themselves


def _gateway(sight: Sight) -> LinkInfo:
    name, beat = LinkName.GATEWAY, sight.heard.reports.get("gateway")
    body = _body(beat)
    if (found := _unheard(sight, name, "gateway", "gateway", beat)) is not None:
        return found
    rate = sight.heard.rates.get("gateway")
    shown = _shown(name, beat, rate, "steps/s", note=_count(body.get("open_sessions"), "open session"))
    refused = str(body.get("unready") or "")
    if refused:
        advice = "Apps keep their steps and send them again; the gateway takes them once that is over."
        return _broken(shown, Trouble(f"The gateway takes no steps: {refused}.", advice))
    return shown


def _log(sight: Sight) -> LinkInfo:
    name, reports = LinkName.LOG, sight.heard.reports
    beat = max((reports[key] for key in ("log", "gateway") if key in reports), key=lambda b: b.at, default=None)
    if beat is None:
        return _absent(name)
    told = _body(reports.get("log"))
    shown = _shown(name, beat, sight.heard.rates.get("log"), "records/s", note=str(told.get("kind") or ""))
    if sight.processes.silent(beat.at):
        advice = "Neither the gateway nor the pipeline, which open it, is there: see these two links."
        return _broken(shown, Trouble("Nobody writes or reads the log.", advice))
    waiting = _body(reports.get("gateway")).get("spool_bytes") or 0
    problem = str(told.get("problem") or "")
    if problem or waiting:
        kept = f" {waiting:,.0f} bytes wait in the gateway's spool." if waiting else ""
        where = told.get("where") or "the brokers"
        advice = f"Start {where} again; nothing that was acknowledged is lost, and what waits follows by itself."
        return _broken(shown, Trouble((problem or "The log does not answer.") + kept, advice))
    return shown


def _samples(sight: Sight) -> LinkInfo:
    name, beat = LinkName.SAMPLES, sight.heard.reports.get("annotator")
    if (found := _unheard(sight, name, "pipeline", "annotator", beat)) is not None:
        return found
    body = _body(beat)
    dead = int(body.get("dead") or 0)
    note = f"{dead:,} dead" if dead else ""
    shown = _shown(name, beat, sight.heard.rates.get("annotator"), "samples/s", body.get("lag_seconds"), "s", note)
    return _late(shown, "The annotator is behind", "Give it more processes or a faster plug-in; nothing is lost.")


def _shards(sight: Sight) -> LinkInfo:
    name, beat = LinkName.SHARDS, sight.heard.reports.get("archiver")
    if (found := _unheard(sight, name, "pipeline", "pipeline", beat)) is not None:
        return found
    body = _body(beat)
    shown = _shown(
        name,
        beat,
        sight.heard.rates.get("archiver"),
        "records/s",
        body.get("lag_seconds"),
        "s",
        _count(body.get("shards"), "shard"),
    )
    spoke = body.get("heard_at")
    if isinstance(spoke, (int, float)):
        trouble = sight.processes.trouble("pipeline", "archiver", float(spoke))
        if trouble is not None:
            return _broken(shown, trouble)
    return _late(shown, "The archive is behind", "Is its store slow or full? What is not archived stays in the log.")


# The trainer's two


def _mixture(sight: Sight) -> LinkInfo:
    name, beat = LinkName.MIXTURE, sight.heard.mixture
    if beat is None and sight.processes.get("train") is None:
        return _absent(name)
    away = _trainer_away(sight, name)
    if away is not None:
        return away
    if beat is None:
        return LinkInfo(link=name, flow=Flow.IDLE, heard_at=_at(_spoke(sight)), note="starting")
    sources: Mapping[str, Any] = beat.body.get("sources") or {}
    rate = sum(float(_body_of(source).get("samples_per_second") or 0.0) for source in sources.values())
    lag = _body_of(sources.get("live")).get("lag_seconds")
    dry = sorted(n for n, s in sources.items() if _body_of(s).get("dry") and _body_of(s).get("weight"))
    note = f"{' and '.join(dry)} dry" if dry else _count(len(sources), "source")
    paused = sight.run.status is RunStatus.PAUSED
    shown = _shown(name, _spoke(sight), 0.0 if paused else rate, "samples/s", lag, "s", note)
    if sources and len(dry) == sum(1 for s in sources.values() if _body_of(s).get("weight")):
        advice = "Training waits. Give weight to a source that has samples, or see why none come."
        return _broken(shown, Trouble("Every source with a weight is dry.", advice))
    return _late(shown, "What is trained on is old", "More weight on live, or more steps a second, shortens it.")


def _step(sight: Sight) -> LinkInfo:
    name, run, beat = LinkName.STEP, sight.run, sight.heard.step
    if sight.trainer is None and beat is None and sight.processes.get("train") is None:
        return _absent(name)
    away = _trainer_away(sight, name)
    if away is not None:
        return away
    rate = sight.heard.rates.get("step", 0.0)
    age = None if beat is None else sight.now - beat.at
    if run.status is not RunStatus.RUNNING:
        note = run.status.value if not run.status.over else f"{run.status.value}: {run.reason}".rstrip(": ")
        return LinkInfo(link=name, flow=Flow.IDLE, rate=0.0, unit="steps/s", note=note, heard_at=_at(_spoke(sight)))
    shown = _shown(name, _spoke(sight), rate, "steps/s", age, "s", f"step {run.step:,}" if run.step else "")
    return _late(shown, "No step was done", "It may evaluate or save; if not, see the sources, and the trainer's log.")


def _trainer_away(sight: Sight, name: LinkName) -> LinkInfo | None:
    seat, run = sight.trainer, sight.run
    away = LinkInfo(link=name, flow=Flow.BROKEN, heard_at=_at(_spoke(sight)))
    if run.status is RunStatus.CRASHED:
        return _broken(away, _supervised(sight, run.reason or "The training failed."))
    if run.status.over or run.desired is DesiredState.STOPPED:
        return away.model_copy(update={"flow": Flow.IDLE, "note": run.status.value})
    heard = _spoke(sight)
    if seat is not None and seat.link is None and not sight.processes.settling:
        return _broken(away, _supervised(sight, "The trainer's connection is lost."))
    if (trouble := sight.processes.trouble("train", "trainer", _at(heard))) is not None:
        return _broken(away, trouble)
    if seat is None or seat.link is None:
        return away.model_copy(update={"flow": Flow.IDLE, "note": "starting"})
    return None


def _supervised(sight: Sight, problem: str) -> Trouble:
    seat = sight.trainer
    left = 0.0 if seat is None else min(seat.left_at, sight.now - SETTLING)
    trouble = sight.processes.trouble("train", "trainer", left)
    if trouble is not None and sight.processes.get("train") is not None:
        return trouble
    advice = "Its process or its network is gone. Start the training again: it goes on from its newest checkpoint."
    return Trouble(problem, advice)


def _spoke(sight: Sight) -> Beat | None:
    """The trainer's last sign of life."""
    return None if sight.trainer is None or not sight.trainer.heard else Beat(sight.trainer.heard, {})


# From the publisher to the users


def _version(sight: Sight) -> LinkInfo:
    name, seat, newest = LinkName.VERSION, sight.publisher, sight.newest
    if seat is None and newest is None and sight.processes.get("publish") is None:
        return _absent(name)
    heard = Beat(seat.heard, {}) if seat is not None and seat.heard else None
    lag = None if newest is None else max(0.0, sight.now - newest.time)
    note = "" if newest is None else f"v{newest.version}"
    held = [channel.channel for channel in sight.channels if channel.held]
    if held:
        note = f"{note}, {' and '.join(held)} held".strip(", ")
    shown = LinkInfo(
        link=name,
        flow=Flow.IDLE if newest is None or held or (lag or 0) > LATE else Flow.FLOWS,
        lag=lag,
        lag_unit="s",
        heard_at=_at(heard),
        note=note or "none yet",
    )
    if seat is None:
        return shown  # a trainer that publishes by itself, or one that is starting
    if seat.link is None and not sight.processes.settling:
        lost = min(seat.left_at, sight.now - SETTLING)
        trouble = sight.processes.trouble("publish", "publisher", lost)
        if trouble is not None:
            return _broken(shown, trouble)
    trouble = sight.processes.trouble("publish", "publisher", _at(heard))
    return shown if trouble is None else _broken(shown, trouble)


def _served(sight: Sight) -> LinkInfo:
    name = LinkName.SERVED
    followers = {n: b for n, b in sight.heard.followers.items() if sight.now - b.at < FORGOTTEN}
    if not followers:
        return _absent(name)
    troubles = {n: t for n, b in followers.items() if (t := _follower(sight, n, b)) is not None}
    heard = max(beat.at for beat in followers.values())
    newest = {channel.channel: channel.version for channel in sight.channels}
    behind = max(_behind(beat, newest) for beat in followers.values())
    shown = LinkInfo(
        link=name,
        flow=Flow.FLOWS,
        rate=None,
        lag=float(behind),
        lag_unit="versions",
        heard_at=heard,
        note=_count(len(followers), "server"),
    )
    if not troubles:
        return shown
    first = next(iter(troubles.values()))
    if len(troubles) == len(followers):
        return _broken(shown, first)
    others = f"{len(troubles)} of {len(followers)} servers are in trouble: {first.problem}"
    return shown.model_copy(update={"flow": Flow.BEHIND, "problem": others, "advice": first.advice})


def _follower(sight: Sight, name: str, beat: Beat) -> Trouble | None:
    trouble = sight.processes.trouble("follow", f"server {name}", beat.at)
    if trouble is not None:
        return trouble
    error = str(beat.body.get("error") or "")
    if not error:
        return None
    advice = "It goes on serving the version that it has. Is the hub there, and is its key the one that it trusts?"
    return Trouble(f"{name} cannot take newer versions: {error}", advice)


def _behind(beat: Beat, newest: Mapping[str, int]) -> int:
    served, current = beat.body.get("version"), newest.get(str(beat.body.get("channel") or ""))
    if current is None:
        return 0
    return max(0, current - served) if isinstance(served, int) else current


# In common


def _unheard(sight: Sight, name: LinkName, role: str, what: str, beat: Beat | None) -> LinkInfo | None:
    """The link where its part is absent, starting, or in trouble; None where it lives."""
    if beat is None and sight.processes.get(role) is None:
        return _absent(name)
    trouble = sight.processes.trouble(role, what, _at(beat))
    if trouble is not None:
        return _broken(LinkInfo(link=name, flow=Flow.BROKEN, heard_at=_at(beat)), trouble)
    return LinkInfo(link=name, flow=Flow.IDLE, note="starting") if beat is None else None


def _shown(
    name: LinkName,
    beat: Beat | None,
    rate: float | None,
    unit: str,
    lag: object = None,
    lag_unit: str = "",
    note: str = "",
) -> LinkInfo:
    return LinkInfo(
        link=name,
        flow=Flow.FLOWS if rate else Flow.IDLE,
        rate=rate,
        unit=unit,
        lag=float(lag) if isinstance(lag, (int, float)) else None,
        lag_unit=lag_unit,
        heard_at=_at(beat),
        note=note,
    )


def _late(shown: LinkInfo, problem: str, advice: str) -> LinkInfo:
    if shown.lag is None or shown.lag <= LATE:
        return shown
    words = f"{problem}: {shown.lag:.0f} s."
    return shown.model_copy(update={"flow": Flow.BEHIND, "problem": words, "advice": advice})


def _broken(shown: LinkInfo, trouble: Trouble) -> LinkInfo:
    changed = {"flow": Flow.BROKEN, "rate": None, "problem": trouble.problem, "advice": trouble.advice}
    return shown.model_copy(update=changed)


def _absent(name: LinkName) -> LinkInfo:
    return LinkInfo(link=name, flow=Flow.ABSENT)


def _at(beat: Beat | None) -> float | None:
    return None if beat is None else beat.at


def _body(beat: Beat | None) -> Mapping[str, Any]:
    return {} if beat is None else beat.body


def _body_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(number: object, what: str) -> str:
    if not isinstance(number, (int, float)):
        return ""
    return f"{number:,.0f} {what}{'' if number == 1 else 's'}"
