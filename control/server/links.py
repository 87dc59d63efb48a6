"""The way of one click of a run, as it stands now: each link's flow, rate and lag, and what to do where it is broken."""

from __future__ import annotations

from collections.abc import Mapping

from control.protocol import ActorKind
from control.server import training_links
from control.server.beats import Beat
from control.server.processes import SETTLING, Trouble, duration
from control.server.roster import Seat
from control.server.sight import LATE, Sight, absent, broken, content, counted, flowing, late, said_at, unheard
from control.way import Flow, LinkInfo, LinkName

FORGOTTEN = 3600.0
"""Seconds after which a server of the weights that is not heard any more is taken to be gone for good."""


def links(sight: Sight) -> tuple[LinkInfo, ...]:
    """All eight, in order."""
    return (
        _gateway(sight),
        _log(sight),
        _samples(sight),
        _shards(sight),
        training_links.mixture(sight),
        training_links.step(sight),
        _version(sight),
        _served(sight),
    )


def publisher_of(seats: list[Seat]) -> Seat | None:
    """The publisher among a run's actors."""
    return next((seat for seat in seats if seat.actor.kind == ActorKind.PUBLISHER), None)


# From the app to the shards: parts that report themselves


def _gateway(sight: Sight) -> LinkInfo:
    name, beat = LinkName.GATEWAY, sight.heard.reports.get("gateway")
    body = content(beat)
    if (found := unheard(sight, name, "gateway", "gateway", beat)) is not None:
        return found
    rate = sight.heard.rates.get("gateway")
    shown = flowing(name, beat, rate, "steps/s", note=counted(body.get("open_sessions"), "open session"))
    refused = str(body.get("unready") or "")
    if refused:
        advice = "Apps keep their steps and send them again; the gateway takes them once that is over."
        return broken(shown, Trouble(f"The gateway takes no steps: {refused}.", advice))
    return shown


def _log(sight: Sight) -> LinkInfo:
    name, reports = LinkName.LOG, sight.heard.reports
    beat = max((reports[key] for key in ("log", "gateway") if key in reports), key=lambda b: b.at, default=None)
    if beat is None:
        return absent(name)
    told = content(reports.get("log"))
    shown = flowing(name, beat, sight.heard.rates.get("log"), "records/s", note=str(told.get("kind") or ""))
    if sight.processes.silent(beat.at):
        advice = "Neither the gateway nor the pipeline, which open it, is there: see these two links."
        return broken(shown, Trouble("Nobody writes or reads the log.", advice))
    waiting = content(reports.get("gateway")).get("spool_bytes") or 0
    problem = str(told.get("problem") or "") or _unanswered(sight)
    if problem or waiting:
        kept = f" {waiting:,.0f} bytes wait in the gateway's spool." if waiting else ""
        where = told.get("where") or "the brokers"
        advice = f"Start {where} again; nothing that was acknowledged is lost, and what waits follows by itself."
        return broken(shown, Trouble((problem or "The log does not answer.") + kept, advice))
    return shown


def _unanswered(sight: Sight) -> str:
    """That the log owes the pipeline an answer, which lives and asks every second: a broker that is gone refuses nothing."""
    asked, lives = sight.heard.reports.get("log"), sight.heard.reports.get("annotator")
    if asked is None or lives is None or sight.processes.silent(lives.at) or not sight.processes.silent(asked.at):
        return ""
    process = sight.processes.get("pipeline")
    if process is not None and process.since > asked.at:
        return ""  # a new one, whose first question is on its way
    return f"The log has not answered for {duration(sight.now - asked.at)}."


def _samples(sight: Sight) -> LinkInfo:
    name, beat = LinkName.SAMPLES, sight.heard.reports.get("annotator")
    if (found := unheard(sight, name, "pipeline", "annotator", beat)) is not None:
        return found
    body = content(beat)
    dead = int(body.get("dead") or 0)
    note = f"{dead:,} dead" if dead else ""
    shown = flowing(name, beat, sight.heard.rates.get("annotator"), "samples/s", body.get("lag_seconds"), "s", note)
    return late(shown, "The annotator is behind", "Give it more processes or a faster plug-in; nothing is lost.")


def _shards(sight: Sight) -> LinkInfo:
    name, beat = LinkName.SHARDS, sight.heard.reports.get("archiver")
    if (found := unheard(sight, name, "pipeline", "pipeline", beat)) is not None:
        return found
    body = content(beat)
    shown = flowing(
        name,
        beat,
        sight.heard.rates.get("archiver"),
        "records/s",
        body.get("lag_seconds"),
        "s",
        counted(body.get("shards"), "shard"),
    )
    spoke = body.get("heard_at")
    if isinstance(spoke, (int, float)):
        trouble = sight.processes.trouble("pipeline", "archiver", float(spoke))
        if trouble is not None:
            return broken(shown, trouble)
    return late(shown, "The archive is behind", "Is its store slow or full? What is not archived stays in the log.")


# From the publisher to the users


def _version(sight: Sight) -> LinkInfo:
    name, seat, newest = LinkName.VERSION, sight.publisher, sight.newest
    if seat is None and newest is None and sight.processes.get("publish") is None:
        return absent(name)
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
        heard_at=said_at(heard),
        note=note or "none yet",
    )
    if seat is None:  # a trainer that publishes by itself, or a publisher that is starting
        trouble = sight.processes.trouble("publish", "publisher", None)
        return shown if trouble is None else broken(shown, trouble)
    if seat.link is None and not sight.processes.settling:
        lost = min(seat.left_at, sight.now - SETTLING)
        trouble = sight.processes.trouble("publish", "publisher", lost)
        if trouble is not None:
            return broken(shown, trouble)
    trouble = sight.processes.trouble("publish", "publisher", said_at(heard))
    return shown if trouble is None else broken(shown, trouble)


def _served(sight: Sight) -> LinkInfo:
    name = LinkName.SERVED
    followers = {n: b for n, b in sight.heard.followers.items() if sight.now - b.at < FORGOTTEN}
    if not followers:
        return absent(name)
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
        note=counted(len(followers), "server"),
    )
    if not troubles:
        return shown
    first = next(iter(troubles.values()))
    if len(troubles) == len(followers):
        return broken(shown, first)
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
