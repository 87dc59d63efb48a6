"""`python -m control.openapi`: the server's OpenAPI document, without a server."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from auth.tokens import TokenStore
from control.server import create_app
from control.settings import ControlSettings
from control.store import Store


def document() -> dict[str, object]:
    """The OpenAPI document of this version."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        try:
            return create_app(ControlSettings(), TokenStore(Path(folder) / "tokens.json"), store).openapi()
        finally:
            store.close()


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")
