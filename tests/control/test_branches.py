"""Branches as people see them: titles, notes, deletion, and the series of several runs side by side."""

from __future__ import annotations

import httpx

from control import ControlClient, EventType, FakeActor, Outcome
from control.bodies import BranchBody, BranchDeletedBody
from control.store import Store
from tests.control.servers import Served
from tests.waiting import until


def trained(served: Served, run: str, losses: dict[str, list[float]]) -> FakeActor:
    """A trainer that says of each branch that it trained it."""
    actor = FakeActor(served.url, served.tokens.operate, run=run).start()
    for number, (branch, values) in enumerate(losses.items()):
        actor.connection.tell(EventType.BRANCH, BranchBody(segment=f"s{number}"), branch=branch)
        for step, loss in enumerate(values, 1):
            actor.connection.tell(EventType.METRICS, {"loss": loss}, step=step, branch=branch)
    until(lambda: {b.branch for b in served.client.run(run).branches if b.step} >= set(losses))
    return actor


def test_a_branch_gets_a_title_and_a_note_without_its_trainer(served: Served, client: ControlClient) -> None:
    trained(served, "demo", {"main": [1.0], "b": [2.0]}).close()
    named = client.send("describe_branch", {"branch": "b", "title": "lower rate"}, run="demo", note="so it is")
    assert (named.outcome, named.before, named.after) == (
        Outcome.SUCCESS,
        {"title": "", "note": ""},
        {"title": "lower rate", "note": ""},
    )
    client.send("describe_branch", {"branch": "b", "note": "stopped to spike"}, run="demo")
    shown = {branch.branch: branch for branch in client.run("demo").branches}
    assert (shown["b"].title, shown["b"].note, shown["main"].title) == ("lower rate", "stopped to spike", "")
    served.restart()
    assert {b.branch: b.title for b in client.run("demo").branches} == {"main": "", "b": "lower rate"}
    dry = client.send("describe_branch", {"branch": "b", "title": "x"}, run="demo", dry_run=True)
    assert dry.after["title"] == "x"
    assert client.run("demo").branches[1].title == "lower rate"
    assert {"describe_branch", "start_training"} <= {each.spec.name for each in client.run("demo").commands}


def test_a_wrong_description_is_rejected_with_the_way_out(served: Served, client: ControlClient) -> None:
    trained(served, "demo", {"main": [1.0], "branch-2": [2.0]}).close()

    def refused(**arguments: object) -> str:
        record = client.send("describe_branch", arguments, run="demo")
        assert record.outcome is Outcome.REJECTED
        return record.reason

    assert "did you mean 'branch-2'?" in refused(branch="branch2", title="x")
    assert "nothing is given" in refused(branch="main")
    assert "is what 'main' is called already" in refused(branch="branch-2", title="main")
    assert "is too long" in refused(branch="main", title="x" * 101)
    assert "'branch' is a required property" in refused(title="x")


def test_a_deleted_branch_is_left_out_of_charts_and_kept_in_the_record(served: Served, client: ControlClient) -> None:
    actor = trained(served, "demo", {"main": [1.0, 2.0], "b": [3.0]})
    actor.connection.tell(EventType.BRANCH, BranchDeletedBody(), branch="b")
    until(lambda: client.run("demo").branches[1].deleted)
    actor.close()
    assert {series.branch for series in client.series("demo").series} == {"main"}
    assert {series.branch for series in client.series("demo", branches=["b"]).series} == {"b"}
    served.thread.stop()
    store = Store(served.settings.data)
    store.rebuild()
    store.close()
    served.restart()
    assert [branch.deleted for branch in client.run("demo").branches] == [False, True]


def test_several_runs_are_compared_in_one_answer(served: Served, client: ControlClient) -> None:
    actors = [trained(served, "a", {"main": [1.0, 2.0]}), trained(served, "b", {"main": [3.0], "c": [4.0]})]
    found = client.compare(["a", "b", "a"], ["loss"])
    assert [(page.run, [(s.branch, s.mean) for s in page.series]) for page in found.runs] == [
        ("a", [("main", (1.0, 2.0))]),
        ("b", [("main", (3.0,)), ("c", (4.0,))]),
    ]
    answer = httpx.get(
        f"{served.url}/api/v1/metrics/series?run=a&run=../x",
        headers={"Authorization": f"Bearer {served.tokens.read}"},
        trust_env=False,
    )
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no run '../x'")
    for actor in actors:
        actor.close()
