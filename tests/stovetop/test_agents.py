"""Agents by settings: every kind from a file, an app's own, and refusals that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.agents import Decision, LLMAgent, Observation, make_agents
from ingest.plugins import load_plugin
from stovetop.errors import ConfigurationError
from stovetop.settings import load_settings

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
