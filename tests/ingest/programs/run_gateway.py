"""A gateway in a process of its own: prints its port when it serves, and `ended` when it has ended by itself."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from auth.tokens import TokenStore
from ingest.gateway import serve_gateway
from ingest.settings import GatewaySettings, LogSettings

folder: Path = pickle.loads(bytes.fromhex(sys.argv[1]))
settings = GatewaySettings.model_validate_json(sys.argv[2])
serve_gateway(
    settings,
    TokenStore(folder / "tokens.json"),
    LogSettings(folder=folder / "log").open(),
    announce=lambda host, port: print(port, flush=True),
)
print("ended", flush=True)
