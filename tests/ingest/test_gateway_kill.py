"""kill -9 of the gateway while clients post: what was acknowledged is in the log once, in order, as it was sent."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import threading
from pathlib import Path

from ingest.async_client import AsyncSessionClient
from ingest.client import SessionClient
from ingest.conversation import ClientSettings
from ingest.sqlite import SqliteLog
from ingest.types import SessionEnded, SessionOpened, StepsAppended
from tests.ingest.conftest import Run
from tests.ingest.gateways import INGEST, stored, tokens_in
from tests.waiting import until

KILLS = 3
CLIENTS = 2
SETTINGS = ClientSettings(batch_steps=8, max_delay=0.005, first_pause=0.02, longest_pause=0.2)


class Posters:
    """Clients of both kinds that post until they are told to stop, and what they know to be acknowledged."""

    def __init__(self, url: str) -> None:
        self.url, self.stop = url, threading.Event()
        self.threaded = [SessionClient(url, INGEST, "desktop", settings=SETTINGS) for _ in range(CLIENTS)]
        self.asynchronous: list[AsyncSessionClient] = []
        self._threads = [threading.Thread(target=self._post, args=(client,)) for client in self.threaded]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._post_all())))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def acknowledged(self) -> dict[str, int]:
        return {client.session_id: client.durable_through for client in (*self.threaded, *self.asynchronous)}

    def _post(self, client: SessionClient) -> None:
        while not self.stop.wait(0.01):
            client.post({"n": client.next_seq}, members=_members(client.next_seq), timeout=30)
        client.end()
        client.close()

    async def _post_all(self) -> None:
        self.asynchronous = [AsyncSessionClient(self.url, INGEST, "desktop", settings=SETTINGS) for _ in range(CLIENTS)]
        await asyncio.gather(*(self._post_async(client) for client in self.asynchronous))

    async def _post_async(self, client: AsyncSessionClient) -> None:
        while not self.stop.is_set():
            await client.post({"n": client.next_seq}, members=_members(client.next_seq), timeout=30)
            await asyncio.sleep(0.01)
        await client.end()
        await client.close()


def _members(seq: int) -> dict[str, bytes]:
    return {"png": b"%d" % seq * 50} if seq % 3 else {}


def test_what_was_acknowledged_survives_kill_9_once_and_in_order(tmp_path: Path, run_program: Run) -> None:
    tokens_in(tmp_path)
    log = SqliteLog(tmp_path / "log")

    def start(port: int) -> tuple[subprocess.Popen[str], int]:
        process = run_program("run_gateway", tmp_path, json.dumps({"port": port}))
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    process, port = start(0)
    posters = Posters(f"http://127.0.0.1:{port}")
    posters.start()
    for _ in range(KILLS):
        before = posters.acknowledged()
        until(
            lambda before=before: all(  # type: ignore[misc]
                through > before.get(session_id, -1) + 12 for session_id, through in posters.acknowledged().items()
            ),
            "everybody gets on",
        )
        threading.Event().wait(random.uniform(0.0, 0.1))
        process.kill()
        process.wait()
        acknowledged = posters.acknowledged()
        _check(log, acknowledged)
        process, _ = start(port)
    posters.join()
    _check(log, posters.acknowledged())
    for client in posters.threaded:
        records = stored(log, client.session_id)
        assert isinstance(records[0], SessionOpened)
        assert isinstance(records[-1], SessionEnded)
        assert records[-1].next_seq == client.next_seq == client.durable_through + 1


def _check(log: SqliteLog, acknowledged: dict[str, int]) -> None:
    assert len(acknowledged) == 2 * CLIENTS
    for session_id, through in acknowledged.items():
        found = [
            step for record in stored(log, session_id) if isinstance(record, StepsAppended) for step in record.steps
        ]
        assert [step.seq for step in found] == list(range(len(found)))
        assert len(found) > through, "an acknowledged step is not in the log"
        for step in found:
            assert (step.inputs, step.members) == ({"n": step.seq}, _members(step.seq))
