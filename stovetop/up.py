"""`stovetop up`: the whole service on this machine, from one settings file."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import httpx

from control import EventType
from control.api import ReportedEvent
from publish import SigningKey
from stovetop.doors import Doors, choose_port
from stovetop.errors import StovetopError
from stovetop.lifeline import hold_role
from stovetop.play import RoleName
from stovetop.reporting import Telling
from stovetop.secrets import Holder, local_token
from stovetop.settings import CONFIG, Settings
from stovetop.supervisor import Backoff, Role, RoleState, Supervisor
from trainer.run import wanted

GATEWAY_PORT, CONTROL_PORT, HUB_PORT = 7070, 7007, 7080
READY_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Service:
    """Every role of one settings file, under one supervisor. Only one on a data folder.

    `environment` is added to that of the roles; `extra` makes further roles (a deployed app beside its service) once
    the doors are known.
    """

    def __init__(
        self,
        settings: Settings,
        config: Path | None,
        environment: Mapping[str, str] | None = None,
        extra: Callable[[Doors], Sequence[Role]] = lambda doors: (),
    ) -> None:
        self.settings = settings
        settings.data.mkdir(parents=True, exist_ok=True)
        self._lock = hold_role(settings.data, "up")
        gateway, control = settings.gateway, settings.control
        set_port = gateway.port if "port" in gateway.model_fields_set else None
        ports = {
            "gateway": choose_port("gateway", gateway.host, GATEWAY_PORT, set_port),
            "control": choose_port("control", control.host, CONTROL_PORT, control.port),
        }
        for holder in Holder:
            local_token(settings, holder)
        if settings.hub.serve:
            set_hub = settings.hub.port if "port" in settings.hub.model_fields_set else None
            ports["hub"] = choose_port("hub", settings.hub.host, HUB_PORT, set_hub)
        self.doors = Doors(
            pid=os.getpid(),
            gateway=f"http://{gateway.host}:{ports['gateway']}",
            control=f"http://{control.host}:{ports['control']}",
            hub=str(settings.publish.hub),
            channel=settings.publish.channel,
            public_key=str(SigningKey.load_or_create(settings.publish.key).public),
        )
        self.doors.write(settings.doors)
        shared = {
            **(environment or {}),
            **({CONFIG: str(config)} if config is not None else {}),
            "STOVETOP_DATA": str(settings.data.absolute()),
            "STOVETOP_GATEWAY__PORT": str(ports["gateway"]),
            "STOVETOP_CONTROL__PORT": str(ports["control"]),
            **({"STOVETOP_HUB__PORT": str(ports["hub"])} if settings.hub.serve else {}),
        }
        self.hub_url = f"http://{settings.hub.host}:{ports['hub']}" if settings.hub.serve else None
        backoff = Backoff(settings.up.first_pause, settings.up.longest_pause)
        roles = [_role(name, settings, shared) for name in RoleName if _asked_for(name, settings)]
        roles += extra(self.doors)
        self._roles = {role.name: role for role in roles}
        self.supervisor = Supervisor(roles, settings.data / "logs", backoff, settings.up.grace)
        self._telling = Telling(settings, self._figures, self.doors.control)

    def role(self, name: str) -> Role:
        """One of the roles."""
        return self._roles[name]

    def start(self) -> None:
        """Start the roles and return once both doors answer. Raises StovetopError where one does not."""
        self.supervisor.start()
        self._telling.start()
        deadline = time.monotonic() + READY_SECONDS
        for name, address in ((RoleName.GATEWAY, self.doors.gateway), (RoleName.CONTROL, self.doors.control)):
            while not _answers(f"{address}/readyz"):
                broken = self.supervisor.states[name.value] is RoleState.MISCONFIGURED
                if broken or time.monotonic() > deadline:
                    log = self.settings.data / "logs" / f"{name.value}.log"
                    raise StovetopError(f"{name.value} does not answer at {address}; see {log}:\n{_tail(log)}")
                time.sleep(0.05)

    def close(self) -> None:
        """End every role."""
        self._telling.close()
        self.supervisor.close()
        self._lock.close()

    def _figures(self) -> Iterator[ReportedEvent]:
        """Where each role stands, for the control server: it knows of a death before the process's silence shows it."""
        if not _answers(f"{self.doors.control}/livez"):
            return  # it is on its way, or its own death is what there would be to tell
        roles = {
            name: {**dataclasses.asdict(report), "log": str(report.log)}
            for name, report in self.supervisor.reports.items()
        }
        body = {"component": "supervisor", "pid": os.getpid(), "roles": roles}
        yield ReportedEvent(run=self.settings.run, type=EventType.PIPELINE, body=body)


def up(settings: Settings, config: Path | None, say: Callable[[str], None]) -> None:
    """Run the service until SIGINT or SIGTERM, telling the doors through `say`."""
    service = Service(settings, config)

    def ask(number: int, frame: FrameType | None) -> None:
        service.supervisor.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    try:
        service.start()
        doors = service.doors
        say(f"post sessions to   {doors.gateway}   (token in {settings.secrets / Holder.APP})")
        say(f"steer at           {doors.control}/#token={local_token(settings, Holder.OPERATOR)}")
        say(f"follow weights in  {doors.hub}   (channel {doors.channel}, key {doors.public_key})")
        if service.hub_url is not None:
            say(
                f"load weights with  HF_ENDPOINT={service.hub_url}   (HF_TOKEN in {settings.secrets / Holder.OPERATOR})"
            )
        say(f"logs in            {settings.data / 'logs'}; Ctrl-C stops everything")
        while not service.supervisor.stopping.wait(0.5):
            pass
    finally:
        service.close()


def _asked_for(name: RoleName, settings: Settings) -> bool:
    if name is RoleName.HUB:
        return settings.hub.serve
    if name is RoleName.AGENTS:
        return bool(settings.agents.by_name)
    if name is RoleName.SAMPLES:
        return settings.app.samples is not None
    return name is not RoleName.TRAIN or settings.app.recipe is not None


def _role(name: RoleName, settings: Settings, environment: Mapping[str, str]) -> Role:
    command = (sys.executable, "-m", "stovetop.cli", name.value)
    if name is RoleName.TRAIN:
        return Role(name.value, command, environment, wanted=lambda: wanted(settings.runs / settings.run))
    return Role(name.value, command, environment, outlives=name is RoleName.CONTROL)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _tail(path: Path, lines: int = 5) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
