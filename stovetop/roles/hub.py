"""The embedded hub's process."""

from __future__ import annotations

from auth import TokenStore
from publish import DirectoryHub
from publish.server import HubServer
from stovetop.settings import Settings


def run(settings: Settings) -> None:
    """Serve the publisher's directory until told to stop."""
    chosen = settings.hub
    own = chosen.repository or f"stovetop/{settings.app.name}"
    HubServer(chosen, DirectoryHub(settings.publish.hub, create=True), own, TokenStore(settings.tokens)).run()
