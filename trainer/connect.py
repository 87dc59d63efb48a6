"""The connection that a trainer's settings ask for: to the server they name, or to one started beside the training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from auth import Scope, TokenStore
from control import ActorConnection, ActorKind, ControlSettings
from trainer.checkpoints import Start
from trainer.command import command_types
from trainer.errors import SettingsInvalid
from trainer.link import Link, MemoryLink
from trainer.segments import StartReason

if TYPE_CHECKING:
    from control.server import ControlThread
    from trainer.steering import Steering

ACTOR = "trainer"
GREETING_SECONDS = 5.0
"""How long training waits for the server's first answer (what is wanted of the run); without one it begins all the same."""

_beside: dict[Path, tuple[ControlThread, str]] = {}

logger = logging.getLogger(__name__)


def connect(steering: Steering, start: Start) -> Link:
    """The link of rank 0; one to nobody where the settings want none."""
    settings = steering.settings
    if settings.url is None and not settings.serve:
        return MemoryLink()
    if settings.url is None:
        url, token = _serve_beside(steering)
    elif settings.token is None:
        raise SettingsInvalid(f"url is {settings.url}, but no token is given; make one with `stovetop token`")
    else:
        url, token = settings.url, settings.token.get_secret_value()
    link = ActorConnection(
        url,
        token,
        run=steering.run,
        actor=ACTOR,
        kind=ActorKind.TRAINER,
        commands=[kind.spec(settings.bounds.get(name, {})) for name, kind in sorted(command_types().items())],
        revision=_held(start),
        starts=settings.starts,
    )
    if not link.start(wait=GREETING_SECONDS):
        logger.warning("the control server at %s does not answer yet; training begins without it", url)
    return link


def _held(start: Start) -> int | None:
    """The newest command that the state holds; None where what was set before is not to be set again."""
    if start.reason is not StartReason.RESUME:
        return None
    return start.checkpoint.card.revision if start.checkpoint is not None else 0


def _serve_beside(steering: Steering) -> tuple[str, str]:
    """A server in this process, one a run's folder, which lives as long as the process: its dashboard outlives training."""
    from control.server import ControlThread  # a web server, which others than a lone training do not need

    settings, folder = steering.settings, steering.folder.path.absolute() / "control"
    if folder not in _beside:
        folder.mkdir(parents=True, exist_ok=True)
        tokens = TokenStore(folder / "tokens.json")
        secret = tokens.mint(ACTOR, [Scope.OPERATE])
        operator = tokens.mint("operator", [Scope.OPERATE])
        thread = ControlThread(
            ControlSettings(
                host=settings.host,
                port=settings.port,
                data=folder,
                paper_clients=settings.paper_clients,
                alerts=settings.alerts,
            ),
            tokens,
        ).start()
        _beside[folder] = thread, secret
        # the one line that must be seen also where nobody has set logging up
        logger.warning("steer this training at %s with the token %s", thread.url, operator)
    thread, secret = _beside[folder]
    return thread.url, secret
