"""Parts shared by the tests of publish."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from auth import Scope, TokenStore
from publish import DirectoryHub, Follower, HubSettings, LiveModel, Outbox, Publisher, PublisherEvent, SigningKey, put
from publish.server import HubThread
from tests.publish.faults import proxied
from tests.publish.parts import Uniform, Weights, ticket, weights_of
from tests.publish.remote import Remote


@dataclass
class Kitchen:
    """A trainer's outbox, a publisher, its hub and key, in one folder, stepped by hand."""

    root: Path
    key: SigningKey
    hub: DirectoryHub
    publisher: Publisher
    events: list[PublisherEvent] = field(default_factory=list)

    @property
    def outbox(self) -> Path:
        return self.root / "outbox"

    def publish(self, value: int, channel: str = "stable") -> None:
        """Train to step `value`, hand over, publish."""
        put(self.outbox, weights_of(value), ticket(value, channel=channel))
        assert self.publisher.step() == 0.0


@pytest.fixture
def kitchen(tmp_path: Path) -> Iterator[Kitchen]:
    """A fresh kitchen whose publisher holds its outbox."""
    key = SigningKey.load_or_create(tmp_path / "keys" / "publisher.key")
    hub = DirectoryHub(tmp_path / "hub", create=True)
    events: list[PublisherEvent] = []
    outbox = Outbox(tmp_path / "outbox")
    publisher = Publisher(hub, outbox, key, keep=3, tell=events.append)
    with outbox.served():
        yield Kitchen(tmp_path, key, hub, publisher, events)


Follow = Callable[..., tuple[Follower[Weights], LiveModel[Weights]]]


@pytest.fixture
def follow(kitchen: Kitchen) -> Iterator[Follow]:
    """Make a follower of the kitchen's hub that was restored and waits to be stepped; closed at the end."""
    with ExitStack() as made:

        def make(**options: object) -> tuple[Follower[Weights], LiveModel[Weights]]:
            live = LiveModel(options.pop("loader", Uniform()), options.pop("base", None))
            follower = Follower(
                options.pop("hub", kitchen.hub),
                "stable",
                options.pop("keys", [kitchen.key.public]),
                options.pop("cache", kitchen.root / "cache"),
                live,
                **options,
            )
            follower.restore()
            made.callback(follower.close)
            return follower, live

        yield make


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    tokens = TokenStore(tmp_path / "tokens.json")
    settings = HubSettings(port=0, repositories=tmp_path / "repositories")
    own = DirectoryHub(tmp_path / "own", create=True)
    with HubThread(settings, own, "stovetop/desktop", tokens) as server, proxied(server.url) as proxy:
        yield Remote(proxy, tokens.mint("operator", [Scope.OPERATE]), tmp_path)
