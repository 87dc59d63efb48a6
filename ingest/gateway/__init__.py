"""The door for deployed apps: sessions and steps over HTTP, taken once, in order, and answered when they are on disk.

It promises that a 2xx means durable, that a step that comes again is noticed, that every queue has a byte budget, and
that every refusal says what to do (RFC 9457). Reading order: `wire` and `admission` (what comes in), `ingest.sessions`
(what is taken), `committer` (how it becomes durable), `app` (the doors), `serve` (the process).
"""

from ingest.gateway.app import create_app
from ingest.gateway.gateway import Gateway
from ingest.gateway.serve import serve_gateway

__all__ = ["Gateway", "create_app", "serve_gateway"]
