"""Agents: rules, language models and a bandit that steer a run through the same commands as people.

The room promises that training never waits for an agent, that no agent makes a run stand still, whatever happens to it,
that each keeps to an operator's bounds, and that what it saw, wanted and did is in the record. In reading order:

    observation   policy   limits   rules · script · prompt → llm · bandit → data   settings   settled   runner   host   make
"""

from control.agents.bandit import Bandit, within
from control.agents.data import DataAgent, DataSettings, Task
from control.agents.host import Agents
from control.agents.limits import Guard, Limits
from control.agents.llm import LLMAgent, LLMSettings
from control.agents.make import make_agents
from control.agents.observation import Observation, Record, Warned
from control.agents.policy import Action, AgentError, Bounded, Decision, First, Policy, Remembers
from control.agents.rules import NotFinite, Plateau, RulesSettings, Spike, rules
from control.agents.script import Line, Script
from control.agents.settings import (
    AgentSettings,
    AgentsSettings,
    DataAgentSettings,
    LLMAgentSettings,
    Mode,
    OwnAgentSettings,
    RulesAgentSettings,
    ScriptAgentSettings,
)

__all__ = [
    "Action",
    "AgentError",
    "AgentSettings",
    "Agents",
    "AgentsSettings",
    "Bandit",
    "Bounded",
    "DataAgent",
    "DataAgentSettings",
    "DataSettings",
    "Decision",
    "First",
    "Guard",
    "LLMAgent",
    "LLMAgentSettings",
    "LLMSettings",
    "Limits",
    "Line",
    "Mode",
    "NotFinite",
    "Observation",
    "OwnAgentSettings",
    "Plateau",
    "Policy",
    "Record",
    "Remembers",
    "RulesAgentSettings",
    "RulesSettings",
    "Script",
    "ScriptAgentSettings",
    "Spike",
    "Task",
    "Warned",
    "make_agents",
    "rules",
    "within",
]
