"""Agents by settings: every kind from a file, an app's own, and refusals that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.agents import Decision, LLMAgent, Observation, make_agents
from ingest.plugins import load_plugin
from stovetop.errors import ConfigurationError, StovetopError
from stovetop.settings import load_settings
from stovetop.verbs.agents import changes_of

FILE = """
[agents.safety]
kind = "rules"
mode = "act"
limits = {max_lr = 1e-3, budget = 20}

[agents.tuner]
kind = "llm"
every = 50
llm = {url = "http://127.0.0.1:8000/v1", model = "tiny", answers = "wide"}

[agents.data]
kind = "data"
data = {tasks = {eval_folder = {source = "live"}}}
limits = {shares = {base = [0.3, 0.8]}}

[agents.expert]
kind = "script"
script = [{step = 100, command = "update_optimizer", arguments = {lr = {scale = 0.5}}, why = "it has settled"}]

[agents.mine]
kind = "own"
policy = "tests.stovetop.test_agents:Mine"
options = {word = "hello"}
"""


class Mine:
    """An app's own policy."""

    def __init__(self, word: str) -> None:
        self.word = word

    def decide(self, seen: Observation) -> Decision | None:
        return Decision("own:mine", self.word)

    def acted(self, decision: Decision) -> None: ...


def test_every_kind_of_agent_comes_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "stovetop.toml").write_text(FILE)
    settings = load_settings(tmp_path / "stovetop.toml")

    made = make_agents(settings.agents, load_plugin)

    assert list(made) == ["safety", "tuner", "data", "expert", "mine"]
    assert made["safety"][1].mode == "act"
    assert made["safety"][1].limits.budget == 20
    policy, chosen = made["tuner"]
    assert isinstance(policy, LLMAgent)
    assert (policy.by, chosen.mode) == ("llm:tiny", "suggest")
    decision = made["mine"][0].decide(Observation("demo"))
    assert decision is not None
    assert decision.explanation == "hello"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('[agents.x]\nkind = "rule"', "rule"),
        ('[agents.x]\nkind = "rules"\nlimits = {commands = ["pause_training"]}', "not for agents"),
        ('[agents.x]\nkind = "data"\nlimits = {shares = {base = [0.8, 0.3]}}', "base"),
        ('[agents."a b"]\nkind = "rules"', "agents"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, section: str, said: str) -> None:
    (tmp_path / "stovetop.toml").write_text(section)

    with pytest.raises(ConfigurationError, match=said):
        load_settings(tmp_path / "stovetop.toml")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["max_lr=1e-3", "budget=30"], {"limits": {"max_lr": 0.001, "budget": 30}}),
        (["budget=none", "max_lr=file", "every=5"], {"every": 5, "limits": {"budget": None, "max_lr": "file"}}),
        (["every=file"], {"every": "file"}),
        (
            ["commands=update_optimizer,save_checkpoint"],
            {"limits": {"commands": ["update_optimizer", "save_checkpoint"]}},
        ),
        (["shares.live=0.1:0.6"], {"limits": {"shares": {"base": [0.2, 1], "live": [0.1, 0.6]}}}),
        (["shares.base=none"], {"limits": {"shares": {}}}),
        (["shares=none", "shares.live=0:0.6"], {"limits": {"shares": {"live": [0, 0.6]}}}),
        (["shares=file"], {"limits": {"shares": "file"}}),
    ],
)
def test_limits_are_read_from_the_command_line(values: list[str], wanted: dict[str, object]) -> None:
    assert changes_of(values, {"base": [0.2, 1]}) == wanted


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["max_lr"], "'max_lr': say it as name=value"),
        (["max_rate=1"], "there is no limit 'max_rate'; these are: every, commands"),
        (["max_lr=fast"], "'fast' is no number; as 0.001"),
        (["max_lr=nan"], "'nan' is no number; as 0.001"),
        (["shares=0.5"], "name the source, as shares.live=0.1:0.6"),
        (["shares.live=0.5"], "a range has a least and a most"),
        (["shares=file", "shares.live=0:1"], "say one or the other"),
    ],
)
def test_limits_that_cannot_be_read_are_named(values: list[str], said: str) -> None:
    with pytest.raises(StovetopError, match=said):
        changes_of(values, {})
