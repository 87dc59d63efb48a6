"""The section `agents` of `stovetop.toml`: which agents there are, and what each may do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from control.agents.data import DataSettings
from control.agents.limits import Limits
from control.agents.llm import LLMSettings
from control.agents.rules import RulesSettings
from control.agents.script import Line
from control.protocol import NAME_PATTERN


class Mode(StrEnum):
    """What becomes of a decision."""

    ACT = "act"  # it is sent
    SUGGEST = "suggest"  # it is checked by a dry run, and waits for somebody to accept it


Every = Annotated[int, Field(ge=1, description="a whole number of steps, 1 or more, between two looks")]
"""The paper's agents look at each step."""


class AgentSettings(BaseModel):
    """What all agents have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="true or false")
    mode: Mode = Field(Mode.SUGGEST, description='"act" or "suggest"')
    every: Every = 10
    limits: Limits = Limits()


class RulesAgentSettings(AgentSettings):
    """Spikes, NaN, plateaus."""

    kind: Literal["rules"] = "rules"
    every: Every = 1
    rules: RulesSettings = RulesSettings()


class LLMAgentSettings(AgentSettings):
    """A language model."""

    kind: Literal["llm"] = "llm"
    llm: LLMSettings = LLMSettings()


class DataAgentSettings(AgentSettings):
    """A bandit over the mixture."""

    kind: Literal["data"] = "data"
    every: Every = 20
    data: DataSettings = DataSettings()


class ScriptAgentSettings(AgentSettings):
    """Commands by step."""

    kind: Literal["script"] = "script"
    every: Every = 1
    script: tuple[Line, ...] = ()


class OwnAgentSettings(AgentSettings):
    """An app's own: `policy` is a plug-in, `module:name`, called with `options`, that gives a `control.agents.Policy`."""

    kind: Literal["own"] = "own"
    policy: str
    options: Mapping[str, Any] = {}


AnyAgent = Annotated[
    RulesAgentSettings | LLMAgentSettings | DataAgentSettings | ScriptAgentSettings | OwnAgentSettings,
    Field(discriminator="kind"),
]


class AgentsSettings(BaseModel):
    """The agents by name; without any, none runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by_name: Mapping[Annotated[str, Field(pattern=NAME_PATTERN)], AnyAgent] = {}

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        """`[agents.NAME]` is read as one agent."""
        if isinstance(values, Mapping) and "by_name" not in values:
            return {"by_name": values}
        return values
