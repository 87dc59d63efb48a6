"""The agents' process."""

from __future__ import annotations

from control.agents import Agents, make_agents
from ingest.plugins import load_plugin
from stovetop.play import stop_on_signals
from stovetop.reporting import control_url
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings


def run(settings: Settings) -> None:
    """Watch over the run until told to stop."""
    stop = stop_on_signals()
    made = make_agents(settings.agents, load_plugin)
    agents = Agents(control_url(settings), local_token(settings, Holder.AGENTS), settings.run, made).start()
    try:
        stop.wait()
    finally:
        agents.close()
