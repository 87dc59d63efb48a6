"""The deployed desktop sends back a version that its visitors give up on."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from starlette.testclient import TestClient, WebSocketTestSession

from examples.desktop.app import ALARMS, AppOptions, create_app
from examples.desktop.model import BASE, load_base
from publish import DirectoryHub, Outbox, Publisher, SigningKey, put
from tests.ingest.gateways import INGEST, running
from tests.publish.parts import ticket
from tests.waiting import until

CLICK = json.dumps({"x": 3, "y": 3, "is_left_click": True, "is_right_click": False, "keys_down": [], "keys_up": []})
RESET = json.dumps({"reset": True})


def test_a_version_after_which_visitors_reset_their_screens_is_sent_back(tmp_path: Path) -> None:
    key = SigningKey.load_or_create(tmp_path / "publisher.key")
    hub, outbox = DirectoryHub(tmp_path / "hub", create=True), Outbox(tmp_path / "outbox")
    publisher = Publisher(hub, outbox, key)
    model = load_base(BASE)

    def publish(step: int) -> None:
        with torch.no_grad():
            model.conv_out.bias += 1e-6 * step
        put(tmp_path / "outbox", model.save_pretrained, ticket(step))
        assert publisher.step() == 0.0

    with outbox.served(), running(tmp_path) as gateway:
        options = AppOptions(gateway.url, INGEST, tmp_path / "hub", str(key.public), tmp_path / "cache")
        with TestClient(create_app(options)) as client, client.websocket_connect("/ws") as visitor:
            visitor.receive_bytes()

            def serves(version: int) -> bool:
                return client.get("/readyz").json()["version"] == version

            publish(1)
            until(lambda: serves(1), "the first version is served")
            for _ in range(ALARMS.least + 1):
                answered(visitor, CLICK)
            publish(2)
            until(lambda: serves(2), "the second version is served")
            for _ in range(ALARMS.least):
                answered(visitor, CLICK)
                answered(visitor, RESET)
            until(lambda: serves(1), "the second version is sent back")
            assert client.get("/readyz").json()["alarms"] == 1


def answered(visitor: WebSocketTestSession, message: str) -> None:
    visitor.send_text(message)
    visitor.receive_bytes()
