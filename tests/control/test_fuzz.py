"""Whatever is sent, by however many, while the trainer comes and goes: one outcome each, and the server goes on."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from typing import Any

from control import EventType, FakeActor
from control.api import CommandRecord
from control.fake import TRAINER
from tests.control.conftest import Serve
from tests.control.servers import HTTP, Served
from tests.waiting import until

SENDERS, EACH = 4, 40

NAMES = [
    *TRAINER,
    "start_training",
    "promote_version",
    "updte_optimizer",
    "",
    "x" * 200,
    "../../etc",
    "\u0000",
    "💥",
    "DROP TABLE",
]
VALUES: list[Any] = [
    0, -1, 1e308, 1e999, float("nan"), 10**40, True, None, "", "x" * 5000, "\u0000", "💥", [], [[[]]], {},
    {"value": "abc"}, {"value": 1e-5}, {"scale": 0.5}, {"$ref": "#"}, {"__class__": {"__init__": 1}},
    "'; DROP TABLE events; --",
]  # fmt: skip


def one(chance: random.Random, depth: int = 0) -> Any:
    if depth < 3 and chance.random() < 0.3:
        keys = chance.sample(["lr", "weights", "uuid", "branch_name", "a.b", "", "💥", "value", "scale"], 2)
        return {key: one(chance, depth + 1) for key in keys}
    return chance.choice(VALUES)


def send(served: Served, chance: random.Random) -> int:
    headers = {"Authorization": f"Bearer {served.tokens.operate}", "Content-Type": "application/json"}
    name, arguments = chance.choice(NAMES), one(chance)
    if chance.random() < 0.4:
        wire = {"command": name, "args": chance.choice([json.dumps(arguments), "", "{", "[1", None, "x" * 100])}
        body: dict[str, Any] = wire | {
            "time": chance.choice([0, 1.0, 1e13]),
            "uuid": chance.choice(["", "same", "y" * 300]),
        }
        path = "/api/command/"
    else:
        body = {
            "command": name,
            "arguments": arguments,
            "uuid": chance.choice([None, f"u{chance.randrange(40)}", "a/b"]),
        }
        body |= chance.choice(
            [{}, {"expires_at": 1.0}, {"run": "nowhere"}, {"dry_run": True}, {"expected_revision": 3}]
        )
        path = "/api/v1/commands"
    content = json.dumps(body).encode()
    if chance.random() < 0.05:
        content = content[: chance.randrange(len(content))]
    return HTTP.post(served.url + path, content=content, headers=headers).status_code


def test_each_of_many_odd_commands_has_one_outcome_and_nothing_breaks(serve: Serve) -> None:
    served = serve(commands_per_minute=10**6, actor_grace=0.5, command_expiry=3.0)
    answers: Counter[int] = Counter()
    crashes: list[BaseException] = []

    def sender(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(EACH):
                answers[send(served, chance)] += 1
        except BaseException as error:
            crashes.append(error)

    senders = [threading.Thread(target=sender, args=(seed,)) for seed in range(SENDERS)]
    for thread in senders:
        thread.start()
    while any(thread.is_alive() for thread in senders):
        actor = FakeActor(served.url, served.tokens.operate).start()
        threading.Event().wait(0.15)  # what it takes in this time, it takes
        actor.die()
    for thread in senders:
        thread.join()
    assert crashes == []
    assert not any(status >= 500 for status in answers), answers
    assert answers[200] + answers[202] > SENDERS * EACH / 2
    with FakeActor(served.url, served.tokens.operate):
        until(lambda: all(record.outcome for record in everything(served)))
    ended: Counter[str] = Counter()
    place, more = 0, True
    while more:
        page = served.client.history(place, types=[EventType.COMMAND], limit=5000)
        ended.update(event.body["uuid"] for event in page.events if event.body["outcome"] is not None)
        place, more = page.last, page.more
    assert ended == Counter(record.uuid for record in everything(served))
    assert served.client.run("demo").seq >= place
    assert HTTP.get(served.url + "/readyz").json()["status"] == "ok"


def everything(served: Served) -> list[CommandRecord]:
    found: list[CommandRecord] = []
    before: int | None = None
    while True:
        page = served.client.commands(before=before, limit=500)
        found += page.commands
        before = page.before
        if before is None:
            return found
