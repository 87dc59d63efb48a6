"""The control server's process."""

from __future__ import annotations

from auth import TokenStore
from control.server import serve_control
from stovetop.settings import Settings


def run(settings: Settings) -> None:
    """Serve until told to stop."""
    serve_control(settings.control, TokenStore(settings.tokens))
