"""How the server does, and how it refuses."""

from __future__ import annotations

from typing import Literal

from control.protocol import Frozen


class Live(Frozen):
    """`/livez`."""

    status: Literal["ok"] = "ok"


class Ready(Frozen):
    """`/readyz`: the store can be written, and how far it is."""

    status: Literal["ok", "failing"]
    reason: str = ""
    seq: int


class ProblemBody(Frozen):
    """RFC 9457 problem details, the body of every refusal (`application/problem+json`)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    retryable: bool
    did_you_mean: str | None = None
