"""Plays one role in this process: its lifeline, its lock, its log, and an exit status that tells its supervisor why."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import threading
from collections.abc import Callable
from enum import StrEnum
from types import FrameType
from typing import Any, NoReturn

from auth import InvalidTokenFile
from control.errors import PortTaken, SettingsError, StoreLocked, UnknownFormat
from ingest.errors import AnnotatorError, GatewayError, LogCorrupt, PluginError
from publish.errors import HubAddressTaken, KeyFileInvalid
from stovetop.errors import ConfigurationError
from stovetop.lifeline import RoleLocked, hold_role, watch_lifeline
from stovetop.settings import Settings
from stovetop.supervisor import CONFIGURATION_ERROR

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

NEEDS_A_PERSON = (
    ConfigurationError,
    RoleLocked,
    InvalidTokenFile,
    PluginError,
    AnnotatorError,
    GatewayError,
    LogCorrupt,
    PortTaken,
    SettingsError,
    StoreLocked,
    UnknownFormat,
    KeyFileInvalid,
    HubAddressTaken,
)
"""Errors that a new start would only meet again."""

logger = logging.getLogger(__name__)


class RoleName(StrEnum):
    """The roles, in the order in which a click passes them; `stovetop up` starts those that the settings ask for."""

    GATEWAY = "gateway"
    PIPELINE = "pipeline"
    CONTROL = "control"
    TRAIN = "train"
    PUBLISH = "publish"
    HUB = "hub"
    AGENTS = "agents"
    SAMPLES = "samples"


def play(role: RoleName, settings: Settings, **given: Any) -> NoReturn:
    """Run the role until it is told to stop, and exit: 0 after a clean end, 78 after what needs a person.

    What is `given` goes to the role beside its settings; such a role stands beside the one of `stovetop up`, one a run.
    """
    logging.basicConfig(level=logging.INFO, format=FORMAT, stream=sys.stderr, force=True)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    watch_lifeline()
    try:
        with hold_role(settings.data, f"{role.value}-{settings.run}" if given else role.value):
            run: Callable[..., None] = importlib.import_module(f"stovetop.roles.{role.value}").run
            run(settings, **given)
    except NEEDS_A_PERSON as error:
        logger.error("%s", error)
        sys.exit(CONFIGURATION_ERROR)
    sys.exit(0)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set, for roles that look at it themselves."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stop
