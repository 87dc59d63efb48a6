"""How verbs ask the gateway: at the address where it says that it is, with the operator's token."""

from __future__ import annotations

from typing import Any

import httpx

from stovetop.doors import Doors
from stovetop.errors import StovetopError
from stovetop.secrets import Holder, local_token
from stovetop.settings import Settings

TIMEOUT = 30.0


def gateway_of(settings: Settings) -> httpx.Client:
    """A client of the gateway with the operator's token."""
    headers = {"Authorization": f"Bearer {local_token(settings, Holder.OPERATOR)}"}
    return httpx.Client(base_url=Doors.read(settings).gateway, headers=headers, timeout=TIMEOUT)


def asked(gateway: httpx.Client, method: str, path: str, **arguments: Any) -> dict[str, Any]:
    """The gateway's answer. Raises `StovetopError` with the reason for a refusal, and where nobody answers."""
    try:
        reply = gateway.request(method, path, **arguments)
    except httpx.TransportError as error:
        raise StovetopError(f"the gateway does not answer at {gateway.base_url} ({error}); is it running?") from error
    try:
        body: dict[str, Any] = reply.json()
    except ValueError:
        body = {}
    if reply.is_error:
        raise StovetopError(f"the gateway refused ({reply.status_code}): {body.get('detail', reply.text[:200])}")
    return body
