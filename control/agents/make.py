"""From settings to agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from control.agents.data import DataAgent
from control.agents.llm import LLMAgent
from control.agents.policy import Policy
from control.agents.rules import rules
from control.agents.script import Script
from control.agents.settings import (
    AgentSettings,
    AgentsSettings,
    AnyAgent,
    DataAgentSettings,
    LLMAgentSettings,
    RulesAgentSettings,
    ScriptAgentSettings,
)

Loader = Callable[[str], Callable[..., Policy]]
"""Finds an app's plug-in by `module:name`."""


def make_agents(settings: AgentsSettings, load: Loader) -> dict[str, tuple[Policy, AgentSettings]]:
    """The agents that the settings name, with their policies; see `control.agents.Agents`."""
    return {name: (policy_of(chosen, load), chosen) for name, chosen in settings.by_name.items()}


def policy_of(settings: AnyAgent, load: Loader) -> Policy:
    """The policy of one agent."""
    if isinstance(settings, RulesAgentSettings):
        return rules(settings.rules)
    if isinstance(settings, LLMAgentSettings):
        return LLMAgent(settings.llm)
    if isinstance(settings, DataAgentSettings):
        return DataAgent(settings.data, settings.limits)
    if isinstance(settings, ScriptAgentSettings):
        return Script(settings.script)
    options: Mapping[str, Any] = settings.options
    return load(settings.policy)(**options)
