"""The way of one click: which link is broken, what is said of it, and that a server shows it of real lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from control import ControlClient, DesiredState, EventType, FakeActor, RunStatus
from control.api import ChannelInfo, ReportedEvent, VersionInfo
from control.server.beats import SILENT, Beat, Heard
from control.server.links import FORGOTTEN, links
from control.server.processes import SETTLING, STARTS, Processes
from control.server.roster import Link, Seat
from control.server.sight import LATE, Sight
from control.store import StoredActor
from control.store.runs import StoredRun
from control.way import Flow, LinkInfo, LinkName
from tests.control.servers import HTTP, Served
from tests.waiting import until

T = TypeVar("T", StoredRun, StoredActor)
NOW = 1_800_000_000.0
LOG = "data/logs/part.log"
RUN = StoredRun(
    run="demo",
    status=RunStatus.RUNNING,
    reason="",
    desired=DesiredState.RUNNING,
    desired_by="",
    desired_at=0.0,
    revision=0,
    numbered=0,
    branch="main",
    step=120,
    max_steps=None,
    created_at=0.0,
    last_event_at=NOW,
)
SOURCES = {
    "base": {"weight": 0.5, "samples_per_second": 10.0, "dry": False},
    "live": {"weight": 0.5, "samples_per_second": 6.0, "dry": False, "lag_seconds": 3.0},
}


def seat(kind: str, link: bool = True, heard: float = NOW - 0.5) -> Seat:
    actor = StoredActor(
        run="demo",
        actor=kind,
        kind=kind,
        instance="i",
        stored=0,
        connected=link,
        since=0.0,
        commands=(),
        state={},
    )
    line = Link(lambda message: None, lambda reason: None) if link else None
    return Seat(actor, line, 0.0 if link else heard, heard)


def supervisor(**roles: Mapping[str, Any]) -> Beat:
    usual = {"state": "running", "pid": 7, "status": None, "since": NOW - 900, "again_at": None, "log": LOG}
    names = ("gateway", "pipeline", "train", "publish")
    return Beat(NOW - 0.4, {"roles": {name: {**usual, **roles.get(name, {})} for name in names}})


def whole(**changes: Any) -> Sight:
    """A service in which everything flows; `changes` replace fields of the sight."""
    fresh = NOW - 0.5
    heard = Heard(
        reports={
            "gateway": Beat(fresh, {"steps": 40, "open_sessions": 2.0, "unready": None}),
            "log": Beat(fresh, {"kind": "SQLite", "end": 40}),
            "annotator": Beat(fresh, {"samples": 39, "lag_seconds": 0.4}),
            "archiver": Beat(fresh, {"entries": 20, "lag_seconds": 2.0, "shards": 1, "heard_at": fresh}),
            "supervisor": supervisor(),
        },
        followers={"app": Beat(fresh, {"version": 3, "channel": "stable"})},
        mixture=Beat(fresh, {"sources": SOURCES}),
        step=Beat(fresh, {}, 120),
        rates={"gateway": 4.0, "log": 4.0, "annotator": 4.0, "archiver": 2.0, "step": 3.0},
    )
    sight = Sight(
        run=RUN,
        heard=heard,
        processes=Processes(heard.reports["supervisor"], NOW, NOW - 3600),
        trainer=seat("trainer"),
        publisher=seat("publisher"),
        channels=(ChannelInfo(run="demo", channel="stable", version=3, time=NOW, held=False),),
        newest=VersionInfo(
            run="demo", version=3, branch="main", segment="s", step=100, time=NOW - 9, action="published"
        ),
    )
    return replace(sight, **changes)


def without(sight: Sight, *components: str, silent: float = SILENT + 1) -> Sight:
    """Those components were last heard a while ago."""
    reports = dict(sight.heard.reports)
    for name in components:
        reports[name] = Beat(NOW - silent, {**reports[name].body, "heard_at": NOW - silent})
    return replace(sight, heard=replace(sight.heard, reports=reports))


def unsupervised(sight: Sight) -> Sight:
    return replace(sight, processes=replace(sight.processes, report=None))


def supervised(sight: Sight, **roles: Mapping[str, Any]) -> Sight:
    return replace(sight, processes=replace(sight.processes, report=supervisor(**roles)))


def broken(sight: Sight) -> dict[LinkName, LinkInfo]:
    return {found.link: found for found in links(sight) if found.flow is Flow.BROKEN}


def test_every_link_of_a_whole_service_flows_with_its_rate_and_lag() -> None:
    shown = {found.link: found for found in links(whole())}
    assert list(shown) == list(LinkName)
    assert {found.flow for found in shown.values()} == {Flow.FLOWS}
    assert (shown[LinkName.GATEWAY].rate, shown[LinkName.GATEWAY].note) == (4.0, "2 open sessions")
    assert (shown[LinkName.MIXTURE].rate, shown[LinkName.MIXTURE].lag) == (16.0, 3.0)
    assert (shown[LinkName.STEP].rate, shown[LinkName.VERSION].note) == (3.0, "v3")
    assert (shown[LinkName.SERVED].lag, shown[LinkName.SERVED].lag_unit) == (0.0, "versions")


@pytest.mark.parametrize(
    ("silent", "red"),
    [
        (("gateway",), {LinkName.GATEWAY}),
        (("annotator", "archiver"), {LinkName.SAMPLES, LinkName.SHARDS}),
        (("archiver",), {LinkName.SHARDS}),
        (("gateway", "log"), {LinkName.GATEWAY, LinkName.LOG}),
    ],
)
def test_a_part_that_hangs_is_red_after_its_silence_and_names_its_process(
    silent: tuple[str, ...], red: set[LinkName]
) -> None:
    assert broken(without(whole(), *silent, silent=SILENT - 0.1)) == {}
    found = broken(without(whole(), *silent))
    assert set(found) == red
    for name in red - {LinkName.LOG}:
        assert "Process 7 " in found[name].problem
        assert "kill -9 7" in found[name].advice
        assert LOG in found[name].advice


def test_a_part_that_died_is_red_at_once_with_its_end_and_its_next_start() -> None:
    waiting = {"state": "waiting", "pid": None, "status": -9, "again_at": NOW + 3}
    found = broken(supervised(whole(), gateway=waiting))
    assert set(found) == {LinkName.GATEWAY}
    assert found[LinkName.GATEWAY].problem == "The gateway was killed by SIGKILL."
    assert "in 3 s" in found[LinkName.GATEWAY].advice
    began = {"status": 1, "since": NOW - 1}  # it runs again, but was not heard yet
    again = broken(supervised(without(whole(), "gateway"), gateway=began))[LinkName.GATEWAY]
    assert again.problem == "The gateway ended with status 1 and is being started again."
    bad = broken(supervised(whole(), pipeline={"state": "misconfigured", "pid": None, "status": 78}))
    assert set(bad) == {LinkName.SAMPLES, LinkName.SHARDS}
    assert "correct the setting" in bad[LinkName.SAMPLES].advice


@pytest.mark.parametrize(
    ("role", "red"),
    [
        ("train", {LinkName.MIXTURE, LinkName.STEP}),
        ("publish", {LinkName.VERSION}),
        ("gateway", {LinkName.GATEWAY}),
        ("pipeline", {LinkName.SAMPLES, LinkName.SHARDS}),
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_a_part_that_hangs_before_its_first_word_starts_for_a_while_and_is_then_red(
    role: str, red: set[LinkName], again: bool
) -> None:
    sight = whole(run=msgspec_replace(RUN, status=RunStatus.STARTING, step=None), newest=None)
    reports = {n: b for n, b in sight.heard.reports.items() if n == "supervisor" or role not in ("gateway", "pipeline")}
    if again:  # an earlier process of it spoke
        spoke = NOW - STARTS - 60
        reports = {name: Beat(spoke, {**beat.body, "heard_at": spoke}) for name, beat in sight.heard.reports.items()}
    gone = {"trainer": seat("trainer", link=False, heard=NOW - STARTS - 60), "publisher": None} if again else {}
    sight = replace(
        sight,
        heard=Heard(reports=reports, rates=sight.heard.rates),
        **({"trainer": None, "publisher": None} | gone),
    )

    def after(seconds: float, started: float = NOW - 3600) -> dict[LinkName, LinkInfo]:
        began = {"since": NOW - seconds, "status": 1 if again else None}
        report = supervisor(**{name: began for name in ("gateway", "pipeline", "train", "publish")})
        return broken(replace(sight, processes=Processes(report, NOW, started)))

    found = after(STARTS + 1)
    assert red <= set(found)
    for name in red:
        assert "Process 7 " in found[name].problem
        assert "has said nothing yet" in found[name].problem
        assert LOG in found[name].advice
        assert "kill -9 7" in found[name].advice
    if not again:
        assert after(STARTS - 1) == {}
        assert after(STARTS + 1, started=NOW - STARTS + 1) == {}  # this server has not waited so long


def test_a_trainer_that_is_connected_and_never_begins_is_red() -> None:
    starting = msgspec_replace(RUN, status=RunStatus.STARTING, step=None)

    def waiting(seconds: float, run: StoredRun = starting) -> Sight:
        here = seat("trainer")
        here.actor = msgspec_replace(here.actor, since=NOW - seconds)
        sight = whole(run=run, trainer=here)
        return replace(sight, heard=replace(sight.heard, mixture=None, step=None, rates={}))

    assert broken(waiting(STARTS - 1)) == {}
    found = broken(waiting(STARTS + 1))
    assert set(found) == {LinkName.MIXTURE, LinkName.STEP}
    assert found[LinkName.STEP].problem == "The trainer is connected for 2 min, and its training has not begun."
    assert "kill -9 7" in found[LinkName.STEP].advice
    assert "its log says" in broken(unsupervised(waiting(STARTS + 1)))[LinkName.STEP].advice
    # it has begun, and its first step does not come
    shown = {found.link: found for found in links(waiting(LATE + 1, RUN))}
    assert (shown[LinkName.STEP].flow, shown[LinkName.STEP].problem) == (Flow.BEHIND, "No step was done: 61 s.")


def test_a_trainer_over_other_data_has_steps_and_no_mixture() -> None:
    sight = whole()
    shown = {found.link: found for found in links(replace(sight, heard=replace(sight.heard, mixture=None)))}
    assert (shown[LinkName.MIXTURE].flow, shown[LinkName.STEP].flow) == (Flow.ABSENT, Flow.FLOWS)


def test_without_a_supervisor_the_advice_is_how_to_start_it() -> None:
    found = broken(unsupervised(without(whole(), "gateway")))[LinkName.GATEWAY]
    assert found.problem == "The gateway was not heard for 5 s."
    assert "`stovetop gateway`" in found.advice


def test_a_trainer_that_is_away_breaks_mixture_and_step_unless_people_want_it_so() -> None:
    gone = whole(trainer=seat("trainer", link=False))
    assert set(broken(unsupervised(gone))) == {LinkName.MIXTURE, LinkName.STEP}
    assert "newest checkpoint" in broken(unsupervised(gone))[LinkName.STEP].advice
    hangs = whole(trainer=seat("trainer", heard=NOW - SILENT - 1))
    assert set(broken(hangs)) == {LinkName.MIXTURE, LinkName.STEP}
    for status in (RunStatus.STOPPED, RunStatus.FINISHED):
        over = replace(gone, run=msgspec_replace(RUN, status=status))
        assert broken(over) == {}
    crashed = replace(gone, run=msgspec_replace(RUN, status=RunStatus.CRASHED, reason="CUDA is out of memory"))
    assert broken(unsupervised(crashed))[LinkName.STEP].problem == "CUDA is out of memory"
    paused = whole(run=msgspec_replace(RUN, status=RunStatus.PAUSED))
    assert [found.flow for found in links(paused) if found.link is LinkName.STEP] == [Flow.IDLE]


def test_a_dry_mixture_a_refusing_gateway_and_a_log_that_does_not_answer_are_red() -> None:
    dry = {name: {**source, "dry": True} for name, source in SOURCES.items()}
    sight = whole()
    sight = replace(sight, heard=replace(sight.heard, mixture=Beat(NOW - 1, {"sources": dry})))
    assert set(broken(sight)) == {LinkName.MIXTURE}
    full = Beat(NOW - 1, {"unready": "the byte budget is used up"})
    sight = whole()
    sight = replace(sight, heard=replace(sight.heard, reports={**sight.heard.reports, "gateway": full}))
    assert "byte budget" in broken(sight)[LinkName.GATEWAY].problem
    reports = {
        **sight.heard.reports,
        "log": Beat(NOW - 1, {"kind": "Kafka", "problem": "The log does not answer: no broker."}),
        "gateway": Beat(NOW - 1, {"spool_bytes": 2048.0, "unready": None}),
    }
    found = broken(replace(sight, heard=replace(sight.heard, reports=reports)))
    assert set(found) == {LinkName.LOG}
    assert found[LinkName.LOG].problem.endswith("2,048 bytes wait in the gateway's spool.")


def test_a_log_that_owes_a_living_pipeline_an_answer_is_red_and_one_that_was_not_asked_is_not() -> None:
    sight = without(whole(), "log", silent=SILENT + 3)
    reports = {**sight.heard.reports, "log": Beat(NOW - 7, {"kind": "Kafka", "where": "the brokers at one:9092"})}
    found = broken(replace(sight, heard=replace(sight.heard, reports=reports)))
    assert set(found) == {LinkName.LOG}
    assert found[LinkName.LOG].problem == "The log has not answered for 7 s."
    assert found[LinkName.LOG].advice.startswith("Start the brokers at one:9092 again; nothing that was acknowledged")
    assert LinkName.LOG in broken(unsupervised(sight))
    new = supervised(sight, pipeline={"since": NOW - 2})  # its first question is on its way
    assert broken(new) == {}
    assert LinkName.LOG not in broken(without(sight, "annotator", "archiver"))  # the pipeline is what hangs


def test_one_of_two_servers_in_trouble_is_behind_both_are_red_and_one_long_gone_is_forgotten() -> None:
    sight = whole()

    def served(**ages: float) -> LinkInfo:
        followers = {name: Beat(NOW - age, {"version": 2, "channel": "stable"}) for name, age in ages.items()}
        return links(replace(sight, heard=replace(sight.heard, followers=followers)))[-1]

    assert (served(a=1, b=1).flow, served(a=1, b=1).lag) == (Flow.FLOWS, 1.0)
    assert served(a=1, b=9).flow is Flow.BEHIND
    assert "1 of 2 servers" in served(a=1, b=9).problem
    assert served(a=9, b=9).flow is Flow.BROKEN
    assert served(a=1, b=FORGOTTEN + 1).note == "1 server"
    assert served().flow is Flow.ABSENT


def test_a_publisher_that_is_away_is_red_and_a_held_channel_is_idle() -> None:
    gone = whole(publisher=seat("publisher", link=False, heard=NOW - 9))
    assert set(broken(gone)) == {LinkName.VERSION}
    held = ChannelInfo(run="demo", channel="stable", version=3, time=NOW, held=True)
    shown = links(whole(channels=(held,)))[6]
    assert (shown.flow, shown.note) == (Flow.IDLE, "v3, stable held")


def test_a_server_that_was_just_started_calls_nobody_silent() -> None:
    sight = without(whole(trainer=seat("trainer", link=False)), "gateway", "annotator", "archiver", "log", silent=60)
    assert broken(unsupervised(sight)) != {}
    young = replace(sight, processes=Processes(None, NOW, NOW - SETTLING / 2))
    assert broken(young) == {}


def test_links_that_are_no_part_of_a_run_are_absent() -> None:
    alone = replace(
        unsupervised(whole(publisher=None, newest=None, channels=())),
        heard=Heard(step=Beat(NOW - 1, {}, 120), rates={"step": 2.0}),
    )
    flows = {found.link: found.flow for found in links(alone)}
    assert flows.pop(LinkName.STEP) is Flow.FLOWS
    assert set(flows.values()) == {Flow.ABSENT}


# Through a real server


def way(served: Served) -> dict[str, Any]:
    answer = HTTP.get(f"{served.url}/api/v1/runs/demo/way", headers={"Authorization": f"Bearer {served.tokens.read}"})
    assert answer.status_code == 200, answer.text
    return {found["link"]: found for found in answer.json()["links"]}


def test_a_server_shows_the_way_of_a_run_also_after_a_restart(
    served: Served, client: ControlClient, trainer: FakeActor
) -> None:
    trainer.connection.tell(EventType.RUN, {"status": "running"}, step=1)
    trainer.connection.tell(EventType.METRICS, {"loss": 1.0}, step=1)
    body = {"component": "gateway", "steps": 5, "open_sessions": 1, "unready": None}
    client.report(ReportedEvent(run="demo", type=EventType.PIPELINE, body=body))
    until(lambda: way(served)["step"]["flow"] == "flows" or way(served)["step"]["note"] == "step 1")
    assert way(served)["gateway"]["note"] == "1 open session"
    assert way(served)["shards"]["flow"] == "absent"
    served.restart()
    assert way(served)["gateway"]["note"] == "1 open session"
    assert {found["flow"] for found in way(served).values()}.isdisjoint({"broken"})
    missing = HTTP.get(
        f"{served.url}/api/v1/runs/nothing/way", headers={"Authorization": f"Bearer {served.tokens.read}"}
    )
    assert missing.status_code == 404


def test_a_silent_line_gives_a_sign_of_life_every_second(served: Served, trainer: FakeActor) -> None:
    trainer.connection.tell(EventType.RUN, {"status": "paused"}, step=1)
    first = until(lambda: way(served)["step"]["heard_at"])
    until(lambda: way(served)["step"]["heard_at"] > first)


def msgspec_replace(run: T, **changes: object) -> T:
    import msgspec

    return msgspec.structs.replace(run, **changes)
