"""Agents beside a real server: they act, suggest, rest, stop, fail, and never make a run stand still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from control import CommandKind, CommandName, EventType, FakeActor, FakeCommand, Outcome, RunStatus
from control.agents import (
    Action,
    Agents,
    AgentSettings,
    DataAgent,
    DataSettings,
    Decision,
    Limits,
    Line,
    LLMAgent,
    LLMSettings,
    Mode,
    Observation,
    Policy,
    Script,
)
from control.bodies import MixtureBody, MixtureSource, RunBody
from control.fake import TRAINER
from control.protocol import Report
from tests.control.agents.models import Chat, chat
from tests.control.servers import Served
from tests.waiting import until

ACT = AgentSettings(mode=Mode.ACT, every=1)
SUGGEST = AgentSettings(mode=Mode.SUGGEST, every=1)


class Halver:
    """Wants half the rate whenever it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.done: list[Decision] = []

    def decide(self, seen: Observation) -> Decision | None:
        self.asked += 1
        return Decision("rule:half", "to try it", [Action("update_optimizer", {"lr": {"scale": 0.5}})])

    def acted(self, decision: Decision) -> None:
        self.done.append(decision)


class Broken(Halver):
    def decide(self, seen: Observation) -> Decision | None:
        self.asked += 1
        raise RuntimeError("a bug in a policy")


class Training:
    """A fake trainer that says its numbers."""

    def __init__(self, served: Served, commands: Mapping[str, FakeCommand] = TRAINER) -> None:
        self.actor = FakeActor(served.url, served.tokens.operate, commands=commands).start()
        self.actor.connection.tell(EventType.RUN, RunBody(status=RunStatus.RUNNING))
        self.step = 0

    def go(self, steps: int = 1, loss: float | None = 2.0, rate: float = 1e-3) -> None:
        for _ in range(steps):
            self.step += 1
            self.actor.connection.tell(EventType.METRICS, {"loss": loss, "learning_rate": rate}, step=self.step)
            time.sleep(0.002)

    @property
    def taken(self) -> list[str]:
        return [delivery.command.command for delivery in self.actor.taken]


@pytest.fixture
def training(served: Served) -> Iterator[Training]:
    made = Training(served)
    yield made
    made.actor.close()


Start = Callable[..., Agents]


@pytest.fixture
def start(served: Served) -> Iterator[Start]:
    """Starts the agents of the run `demo`."""
    made: list[Agents] = []

    def begin(**agents: tuple[Policy, AgentSettings]) -> Agents:
        made.append(Agents(served.url, served.tokens.operate, "demo", agents).start())
        until(lambda: set(made[-1].state()) == set(agents))
        return made[-1]

    yield begin
    for agents in made:
        agents.close()


@pytest.fixture
def model() -> Iterator[Chat]:
    with chat() as said:
        yield said


def said(served: Served, action: str = "") -> list[dict[str, Any]]:
    events = served.client.history(types=[EventType.AGENT]).events
    return [event.body for event in events if action in ("", event.body["action"])]


def test_an_agent_that_may_act_acts_in_its_own_name_with_its_reason(
    served: Served, training: Training, start: Start
) -> None:
    policy = Halver()
    start(half=(policy, AgentSettings(mode=Mode.ACT, every=5)))
    training.go(3)

    until(lambda: training.taken == ["update_optimizer"])

    until(lambda: bool(said(served, "acted")))
    (entry,) = served.client.audit().entries
    assert (entry.author, entry.note, entry.outcome) == ("rule:half", "to try it", Outcome.SUCCESS)
    (told,) = said(served, "acted")
    assert told["commands"][0]["uuid"] == entry.uuid
    assert policy.done
    training.go(1)
    time.sleep(0.2)
    assert len(training.taken) == 1  # not yet five steps


def test_a_suggestion_waits_and_is_sent_in_the_name_of_who_accepts_it(
    served: Served, training: Training, start: Start
) -> None:
    policy = Halver()
    start(half=(policy, SUGGEST))
    training.go(5)
    until(lambda: bool(said(served, "suggested")))
    training.go(5)
    time.sleep(0.2)
    (suggested,) = said(served, "suggested")  # once, not at each step
    assert [record.dry_run for record in served.client.commands().commands] == [True]

    done = served.client.send("accept_suggestion", {"suggestion": suggested["suggestion"]}, author="ada")

    assert done.outcome is Outcome.SUCCESS
    newest = next(record for record in served.client.commands().commands if record.command == "update_optimizer")
    assert newest.author == "ada"
    assert not newest.dry_run
    assert "suggested by rule:half" in newest.note
    training.go(1)
    until(lambda: len(policy.done) == 1)
    again = served.client.send("accept_suggestion", {"suggestion": suggested["suggestion"]})
    assert again.outcome is Outcome.REJECTED


def test_the_kill_switch_holds_at_once_and_over_a_restart_of_the_agents(
    served: Served, training: Training, start: Start
) -> None:
    first = start(half=(Halver(), ACT))
    training.go(3)
    until(lambda: bool(training.taken))

    assert served.client.send("set_agents", {"enabled": False}).outcome is Outcome.SUCCESS

    time.sleep(0.1)
    before = len(training.taken)
    training.go(10)
    time.sleep(0.3)
    assert len(training.taken) == before
    first.close()
    start(half=(policy := Halver(), ACT))
    training.go(10)
    time.sleep(0.5)
    assert len(training.taken) == before
    assert policy.asked == 0
    served.client.send("set_agents", {"enabled": True})
    training.go(3)
    until(lambda: len(training.taken) > before)


def test_mode_and_limits_of_one_agent_are_set_live_and_nonsense_is_refused(
    served: Served, training: Training, start: Start
) -> None:
    agents = start(half=(Halver(), ACT))

    done = served.client.send("set_agents", {"agents": {"half": {"mode": "suggest", "limits": {"max_lr": 0.01}}}})

    assert done.outcome is Outcome.SUCCESS
    assert agents.state()["half"]["mode"] == "suggest"
    assert agents.state()["half"]["limits"]["max_lr"] == 0.01
    for wrong, why in (
        ({"agents": {"halve": {"enabled": False}}}, "there is no agent 'halve'"),
        ({"agents": {"half": {"every": 0}}}, "every"),
        ({"agents": {"half": {"limits": {"commands": ["stop_training"]}}}}, "not for agents"),
    ):
        refused = served.client.send("set_agents", wrong)
        assert refused.outcome is Outcome.REJECTED
        assert why in refused.reason
    assert agents.state()["half"]["mode"] == "suggest"


def test_limits_that_were_set_hold_over_a_restart_of_the_server_and_of_the_agents_whatever_the_file_says(
    served: Served, training: Training, start: Start
) -> None:
    filed = AgentSettings(mode=Mode.ACT, every=1, limits=Limits(budget=20, max_lr=1e-2))
    first = start(half=(Halver(), filed))
    wanted = {"every": 2, "limits": {"min_lr": 9e-4, "budget": None, "commands": ["update_optimizer"]}}
    done = served.client.send("set_agents", {"agents": {"half": wanted}}, author="ada", note="no lower tonight")
    assert done.outcome is Outcome.SUCCESS
    filed_limits = {"min_lr": 0.0, "budget": 20, "commands": list(Limits().commands)}
    assert done.before == {"agents": {"half": {"every": 1, "limits": filed_limits}}}
    assert done.after == {"agents": {"half": wanted}}
    (entry,) = served.client.audit().entries
    assert (entry.author, entry.note, entry.command) == ("ada", "no lower tonight", "set_agents")

    served.restart()
    until(lambda: served.client.run("demo").state["agents"]["by_name"]["half"]["limits"]["min_lr"] == 9e-4)
    first.close()
    other = filed.model_copy(update={"limits": Limits(budget=1, max_lr=2e-2)})
    again = start(half=(Halver(), other))

    until(lambda: again.state()["half"]["limits"]["min_lr"] == 9e-4)
    state = again.state()["half"]
    assert (state["every"], state["limits"]["budget"], state["limits"]["max_lr"]) == (2, None, 2e-2)
    assert state["chosen"]["limits.min_lr"]["author"] == "ada"
    assert state["file"]["limits"]["budget"] == 1
    training.go(20)
    until(lambda: bool(said(served, "refused")))
    assert training.taken == []
    back = served.client.send("set_agents", {"agents": {"half": {"limits": {"min_lr": "file", "budget": "file"}}}})
    assert back.outcome is Outcome.SUCCESS
    assert again.state()["half"]["limits"]["budget"] == 1


def test_an_agent_whose_limits_do_not_go_with_its_file_any_more_stands_until_somebody_sets_them(
    served: Served, training: Training, start: Start
) -> None:
    first = start(half=(Halver(), ACT))
    served.client.send("set_agents", {"agents": {"half": {"limits": {"max_lr": 1e-3}}}})
    first.close()
    again = start(half=(policy := Halver(), ACT.model_copy(update={"limits": Limits(min_lr=1e-2)})))

    until(lambda: bool(again.state()["half"]["held"]))
    training.go(10)
    time.sleep(0.3)
    assert policy.asked == 0
    assert "limits.max_lr: it is 0.001, below min_lr, which is 0.01" in again.state()["half"]["held"]

    still = served.client.send("set_agents", {"agents": {"half": {"limits": {"budget": 3}}}})
    assert still.outcome is Outcome.REJECTED
    served.client.send("set_agents", {"agents": {"half": {"limits": {"min_lr": 0}}}})
    training.go(5)
    until(lambda: bool(training.taken))
    assert again.state()["half"]["held"] == ""


def test_limits_that_would_bind_nothing_are_refused(served: Served, training: Training, start: Start) -> None:
    agents = start(half=(Halver(), ACT))
    mixture = MixtureBody(version=1, sources={"live": MixtureSource(weight=1), "base": MixtureSource(weight=1)})
    training.actor.connection.tell(EventType.MIXTURE, mixture)
    training.go(1)
    until(lambda: served.client.run("demo").mixture is not None)
    until(lambda: bool(training.taken))  # it has seen the mixture by now

    for limits, why in (
        (
            {"commands": ["update_optimiser"]},
            "nobody in this run takes 'update_optimiser'; these are taken: describe_branch, do_eval",
        ),
        ({"shares": {"lvie": [0, 0.5]}}, "there is no source 'lvie'; the sources are live, base"),
    ):
        refused = served.client.send("set_agents", {"agents": {"half": {"limits": limits}}})
        assert refused.outcome is Outcome.REJECTED
        assert why in refused.reason
    assert agents.state()["half"]["chosen"] == {}


def test_a_limit_that_is_set_while_it_thinks_holds_for_what_it_decides(
    served: Served, training: Training, start: Start
) -> None:
    class Late(Halver):
        """Has decided when it is bounded."""

        def decide(self, seen: Observation) -> Decision | None:
            if self.asked == 0:
                served.client.send("set_agents", {"agents": {"late": {"mode": "suggest"}}})
            return super().decide(seen)

    start(late=(policy := Late(), ACT))
    training.go(5)
    until(lambda: bool(said(served, "suggested")))
    assert policy.asked >= 1
    assert not any(not record.dry_run for record in served.client.commands().commands if record.author == "rule:half")


def test_a_policy_that_plans_within_its_limits_is_told_of_new_ones(
    served: Served, training: Training, start: Start
) -> None:
    start(data=(DataAgent(DataSettings(memory=0.5), Limits()), ACT))
    live, base = MixtureSource(weight=1, share=0.5), MixtureSource(weight=1, share=0.5)
    training.actor.connection.tell(EventType.MIXTURE, MixtureBody(version=1, sources={"live": live, "base": base}))
    served.client.send("set_agents", {"agents": {"data": {"limits": {"shares": {"live": [0.0, 0.55]}}}}})
    losses = {"loss": 1.0, "loss/live": 1.0, "loss/base": 0.1}

    def wanted() -> list[float]:
        training.step += 1
        training.actor.connection.tell(EventType.METRICS, losses, step=training.step)
        weights = [delivery.command.arguments["weights"] for delivery in training.actor.taken]
        return [each["live"] / sum(each.values()) for each in weights]

    until(lambda: max(wanted(), default=0.0) > 0.549, every=0.05)
    assert max(wanted()) <= 0.55 + 1e-6
    assert said(served, "refused") == []


def test_limits_refuse_and_say_so_once(served: Served, training: Training, start: Start) -> None:
    settings = AgentSettings(mode=Mode.ACT, every=1, limits=Limits(min_lr=9e-4))
    start(half=(Halver(), settings))
    training.go(20)

    until(lambda: bool(said(served, "refused")))

    training.go(20)
    time.sleep(0.2)
    assert training.taken == []
    (refused,) = said(served, "refused")
    assert "below its limit" in refused["reason"]


def test_a_budget_counts_over_restarts(served: Served, training: Training, start: Start) -> None:
    settings = AgentSettings(mode=Mode.ACT, every=1, limits=Limits(budget=2))
    first = start(half=(Halver(), settings))

    def spent() -> bool:
        training.go(1)
        return len(said(served, "acted")) == 2

    until(spent)
    assert len(training.taken) == 2
    first.close()

    again = start(half=(Halver(), settings))

    training.go(20)
    time.sleep(0.4)
    assert len(training.taken) == 2
    assert again.state()["half"]["spent"] == 2
    assert "is spent" in again.state()["half"]["last"]["resting"]


def test_a_script_goes_on_where_its_last_process_was(served: Served, training: Training, start: Start) -> None:
    lines = [
        Line(step=step, command="update_optimizer", arguments={"lr": {"scale": scale}})
        for step, scale in ((2, 0.5), (2, 0.5), (4, 0.6), (100_000, 0.7))
    ]
    first = start(expert=(Script(lines), ACT))

    def acted(times: int) -> bool:
        training.go(1)
        return len(said(served, "acted")) == times

    until(lambda: acted(3))
    first.close()

    start(expert=(Script(lines), ACT))
    training.go(20)
    time.sleep(0.2)
    assert len(training.taken) == 3
    training.step = 100_000
    until(lambda: acted(4))
    assert [delivery.command.arguments["lr"]["scale"] for delivery in training.actor.taken] == [0.5, 0.5, 0.6, 0.7]


def test_who_is_in_step_with_an_agent_does_not_wait_for_a_command_that_waits_for_a_step(
    served: Served, start: Start
) -> None:
    stepped = threading.Event()

    def at_the_next_step(command: Any) -> Report:
        assert stepped.wait(20)
        return Report(uuid=command.uuid, status=Outcome.SUCCESS.status, outcome=Outcome.SUCCESS)

    slow = FakeCommand(handler=at_the_next_step, kind=CommandKind.SETTING)
    training = Training(served, {**TRAINER, "update_optimizer": slow})
    policy = Halver()
    agents = start(half=(policy, AgentSettings(mode=Mode.ACT, every=10**6)))
    training.go(1)
    until(lambda: training.actor.taken)

    training.go(1)
    assert not agents.look("half", 2, 20)
    assert not stepped.is_set()
    stepped.set()
    until(lambda: policy.done)

    training.go(1)
    assert agents.look("half", 3, 20)
    until(lambda: len(policy.done) == 2)
    time.sleep(0.2)
    assert policy.asked == 2  # once a look, however long it took
    training.actor.close()


def test_a_command_that_failed_makes_it_rest_and_is_told(served: Served, start: Start) -> None:
    def fail(command: Any) -> Report | None:
        raise RuntimeError("no optimizer here")

    failing = FakeCommand(handler=fail, kind=CommandKind.SETTING)
    training = Training(served, {**TRAINER, CommandName.UPDATE_OPTIMIZER.value: failing})
    start(half=(Halver(), ACT))
    training.go(100)

    until(lambda: len(said(served, "failed")) > 1)

    time.sleep(0.3)
    assert 1 < len(training.taken) < 10  # 1, 2, 4, 8 … looks are left out
    assert "no optimizer here" in said(served, "failed")[0]["reason"]
    training.actor.close()


def test_a_bug_in_one_policy_is_not_the_end_of_another(served: Served, training: Training, start: Start) -> None:
    start(broken=(Broken(), ACT), half=(Halver(), ACT))
    training.go(10)

    until(lambda: bool(said(served, "failed")) and bool(training.taken))

    assert "a bug in a policy" in said(served, "failed")[0]["reason"]


def test_a_person_who_comes_in_between_wins(served: Served, training: Training, start: Start) -> None:
    class Slow(Halver):
        def decide(self, seen: Observation) -> Decision | None:
            if self.asked == 0:
                served.client.send("update_optimizer", {"lr": 1e-4}, author="ada")
            return super().decide(seen)

    start(slow=(Slow(), AgentSettings(mode=Mode.ACT, every=1000)))
    training.go(1)

    until(lambda: bool(said(served, "failed")))

    assert "expected revision" in said(served, "failed")[0]["reason"]


def test_a_language_model_halves_the_rate(served: Served, training: Training, start: Start, model: Chat) -> None:
    model.says = 'Well: {"action": "Half", "explanation": "the loss jumps"}'
    start(tuner=(LLMAgent(LLMSettings(url=model.url, model="tiny", task="words")), ACT))
    training.go(4)

    until(lambda: "update_optimizer" in training.taken)

    assert training.actor.taken[0].command.arguments == {"lr": {"scale": 0.5}}
    assert training.actor.taken[0].command.author == "llm:tiny"
    assert model.asked[0]["path"] == "/v1/chat/completions"
    assert model.asked[0]["model"] == "tiny"


def test_same_is_in_the_record_and_nothing_is_sent(
    served: Served, training: Training, start: Start, model: Chat
) -> None:
    start(tuner=(LLMAgent(LLMSettings(url=model.url, model="tiny")), ACT))
    training.go(4)

    until(lambda: bool(said(served, "looked")))

    assert training.taken == []
    assert said(served, "looked")[0]["explanation"] == "fine"


@pytest.mark.parametrize("fault", ["gone", "error", "nonsense", "hangs"])
def test_a_model_that_fails_changes_nothing_and_no_run_stands_still(
    served: Served, training: Training, start: Start, model: Chat, fault: str
) -> None:
    url = model.url
    if fault == "gone":
        url = "http://127.0.0.1:9/v1"
    elif fault == "error":
        model.status = 500
    elif fault == "nonsense":
        model.says = "I would rather not say."
    else:
        model.hang = True
    settings = LLMSettings(url=url, model="tiny", timeout=0.5)
    start(tuner=(LLMAgent(settings), ACT), half=(Halver(), AgentSettings(mode=Mode.ACT, every=1000)))
    training.go(20)

    until(lambda: bool(said(served, "failed")))

    training.go(20)
    assert said(served, "failed")[0]["agent"] == "tuner"
    assert served.client.run("demo").status is RunStatus.RUNNING
    assert set(training.taken) <= {"update_optimizer"}
    assert not any(record.author == "llm:tiny" for record in served.client.commands().commands)


def test_a_switch_holds_for_a_model_that_is_still_thinking(
    served: Served, training: Training, start: Start, model: Chat
) -> None:
    model.says, model.hang = '{"action": "Half", "explanation": "late"}', True
    start(tuner=(LLMAgent(LLMSettings(url=model.url, model="tiny")), ACT))
    training.go(4)
    until(lambda: bool(model.asked))

    served.client.send("set_agents", {"enabled": False})
    model.release.set()

    time.sleep(0.4)
    assert training.taken == []


def test_agents_survive_the_server(served: Served, training: Training, start: Start) -> None:
    start(half=(Halver(), ACT))
    training.go(2)
    until(lambda: bool(training.taken))
    served.restart()
    before = len(training.taken)

    def acts() -> bool:
        training.go(1)
        return len(training.taken) > before

    until(acts)
