"""A publisher to a repository of the embedded hub, and followers of it, through a line that fails on purpose."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from publish import Follower, LiveModel, Outbox, Published, Publisher, PublisherEvent, Retired, SigningKey, put
from publish.hugging_face import HuggingFaceHub
from tests.publish.faults import Proxy
from tests.publish.parts import Uniform, Weights, ticket, weights_of

KEY = SigningKey(bytes(range(32)))
REPOSITORY = "ada/desktop"


@dataclass
class Remote:
    proxy: Proxy
    token: str
    root: Path

    def hub(self, **options: object) -> HuggingFaceHub:
        chosen = {"create": True, "poll": 0.02, "commits_per_hour": 1e6, **options}
        return HuggingFaceHub(REPOSITORY, endpoint=self.proxy.url, token=self.token, **chosen)

    @property
    def objects(self) -> Path:
        """Where the hub keeps contents."""
        return self.root / "repositories" / REPOSITORY / "objects"

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.proxy.url, token=self.token)

    def titles(self, branch: str = "versions") -> list[str]:
        return [commit.title for commit in self.api.list_repo_commits(REPOSITORY, revision=branch)][::-1]


class Work:
    """A publisher to a repository, stepped by hand; its weights are two files of so many `numbers`."""

    def __init__(self, remote: Remote, outbox: str = "outbox", *, numbers: int = 64, **options: object) -> None:
        self.outbox, self.numbers = remote.root / outbox, numbers
        self.hub = remote.hub(**options)
        self.events: list[PublisherEvent] = []
        self.publisher = Publisher(self.hub, Outbox(self.outbox), KEY, keep=3, tell=self.events.append)
        self._served = Outbox(self.outbox).served()  # to the end of the test
        self._served.__enter__()

    def put(self, step: int, **more: object) -> None:
        put(self.outbox, weights_of(step, self.numbers), ticket(step, **more))

    def publish(self, step: int, **more: object) -> None:
        self.put(step, **more)
        assert self.publisher.step() == 0.0, self.events[-1]
        assert isinstance(self.events[-1], Published | Retired), self.events[-1]

    def until_published(self, tries: int = 20) -> None:
        for _ in range(tries):
            if not (wait := self.publisher.step()):
                return
            time.sleep(wait)
        raise AssertionError(self.events[-1])


def follower_of(remote: Remote) -> tuple[Follower[Weights], LiveModel[Weights]]:
    live: LiveModel[Weights] = LiveModel(Uniform())
    follower = Follower(remote.hub(create=False), "stable", [KEY.public], remote.root / "cache", live)
    follower.restore()
    return follower, live


def follow_to(follower: Follower[Weights], version: int) -> None:
    deadline = time.monotonic() + 20
    while follower.status().version != version:
        follower.step()
        assert time.monotonic() < deadline, follower.status()
