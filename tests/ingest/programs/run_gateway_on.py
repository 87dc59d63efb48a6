"""A gateway on any log, in a process of its own: prints its port when it serves."""

from __future__ import annotations

import logging
import pickle
import sys
from pathlib import Path

from auth.tokens import TokenStore
from ingest.gateway import serve_gateway
from ingest.log import Log
from ingest.settings import GatewaySettings

logging.basicConfig(level=logging.INFO)
logging.getLogger("kafka").setLevel(logging.ERROR)
log: Log
folder: Path
log, folder = pickle.loads(bytes.fromhex(sys.argv[1]))
serve_gateway(
    GatewaySettings.model_validate_json(sys.argv[2]),
    TokenStore(folder / "tokens.json"),
    log,
    spool=folder / "spool",
    announce=lambda host, port: print(port, flush=True),
)
print("ended", flush=True)
