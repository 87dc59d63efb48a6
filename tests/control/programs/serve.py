"""A control server as a process of its own. Prints its address once it answers. Arguments: the settings as JSON."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from auth.tokens import TokenStore
from control.server import serve_control
from control.settings import ControlSettings

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    settings = ControlSettings.model_validate_json(sys.argv[1])
    serve_control(settings, TokenStore(Path(sys.argv[2])), announce=lambda url: print(url, flush=True))
