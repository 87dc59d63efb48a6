"""Group commit on a disk that is slow or fails: requests share it, and nobody is answered before it is through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.errors import LogFull, LogUnavailable, SequenceGap
from ingest.gateway import Gateway
from ingest.sessions import Batch, Draft, Opening, digest_of
from ingest.settings import GatewaySettings
from ingest.sqlite import SqliteLog
from ingest.types import Step
from tests.ingest.disks import Disk
from tests.ingest.gateways import seqs, shape
from tests.waiting import until

SESSION = "session-1"


class Committing:
    """A gateway's committing thread on a watched disk."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.disk = Disk()
        self.log = SqliteLog(folder, vfs=self.disk.name)
        self.gateway = Gateway(GatewaySettings(**settings), self.log)
        self.commit = self.gateway.committer.apply

    def syncs(self) -> int:
        return self.disk.events.count(("sync", "gateway.sqlite-wal"))

    async def under_way(self) -> None:
        """Until a commit waits for the disk."""
        assert await asyncio.to_thread(self.disk.syncing.wait, 20)

    def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await self.commit(lambda draft: draft.open(Opening("desktop", {}, SESSION)))
            await work()

        asyncio.run(main())


@pytest.fixture
def committing(tmp_path: Path) -> Iterator[Committing]:
    it = Committing(tmp_path, group_bytes=1_000, max_step_bytes=1_000, max_body_bytes=1_000, sweep_seconds=60)
    yield it
    it.disk.sync_seconds, it.disk.full = 0.0, False
    it.gateway.close()


def appending(seq: int) -> Callable[[Draft], object]:
    step = Step(SESSION, seq, 1.0, 2.0)
    return lambda draft: draft.append(Batch(SESSION, seq, (step,), (digest_of(step),), (10,)))


def test_requests_that_come_while_the_disk_is_busy_share_one_commit(committing: Committing) -> None:
    async def work() -> None:
        committing.disk.sync_seconds = 0.05
        before = committing.syncs()
        await asyncio.gather(*(committing.commit(appending(seq)) for seq in range(60)))
        assert committing.syncs() - before <= 5

    committing.run(work)
    assert seqs(committing.log, SESSION) == list(range(60))


def test_a_commit_waits_for_bodies_that_are_coming_in(committing: Committing) -> None:
    async def work() -> None:
        committing.disk.sync_seconds = 0.1
        await committing.commit(appending(0))
        before = committing.syncs()
        with committing.gateway.lanes.coming(SESSION) as arrived:
            first = asyncio.create_task(committing.commit(appending(1)))
            await asyncio.sleep(0.03)  # less than the commit before took
            arrived()
            await asyncio.gather(first, committing.commit(appending(2)))
        assert committing.syncs() - before == 1

    committing.run(work)
    assert seqs(committing.log, SESSION) == [0, 1, 2]


def test_a_commit_does_not_wait_longer_than_the_one_before_took(committing: Committing) -> None:
    async def work() -> None:
        await committing.commit(appending(0))
        with committing.gateway.lanes.coming(SESSION):  # a body that never comes
            await asyncio.wait_for(committing.commit(appending(1)), 5)

    committing.run(work)
    assert seqs(committing.log, SESSION) == [0, 1]


def test_a_commit_takes_a_bounded_number_of_bytes(committing: Committing) -> None:
    async def work() -> None:
        committing.disk.sync_seconds = 0.02
        before = committing.syncs()
        await asyncio.gather(*(committing.commit(appending(seq), size=400) for seq in range(12)))
        assert committing.syncs() - before >= 6, "two of 400 bytes fit into a group of 1,000"

    committing.run(work)
    assert seqs(committing.log, SESSION) == list(range(12))


def test_nobody_is_answered_before_the_disk_is_through(committing: Committing) -> None:
    async def work() -> None:
        committing.disk.sync_seconds = 0.3
        taken = asyncio.create_task(committing.commit(appending(0)))
        again = asyncio.create_task(committing.commit(appending(0)))
        gap = asyncio.create_task(committing.commit(appending(5)))
        await committing.under_way()
        assert [task.done() for task in (taken, again, gap)] == [False, False, False]
        session = committing.gateway.index.get(SESSION)
        assert session is not None
        assert session.next_seq == 0, "what is not durable is not known"
        await taken
        await again
        with pytest.raises(SequenceGap):
            await gap

    committing.run(work)


def test_when_a_commit_fails_all_of_its_requests_fail_also_those_that_were_refused(committing: Committing) -> None:
    async def work() -> None:
        committing.disk.sync_seconds = 0.1
        first = asyncio.create_task(committing.commit(appending(0)))
        await committing.under_way()
        committing.disk.full = True  # the first is written already, the others gather meanwhile
        others = [asyncio.create_task(committing.commit(appending(seq))) for seq in (1, 7, 2)]
        await first
        for failed in await asyncio.gather(*others, return_exceptions=True):
            assert isinstance(failed, LogFull)
        committing.disk.full = False
        for seq in (1, 2):
            await committing.commit(appending(seq))

    committing.run(work)
    assert seqs(committing.log, SESSION) == [0, 1, 2]


def test_no_visitor_who_comes_again_and_again_is_ended_for_silence_while_nothing_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead, time=time.time)
    for module in ("ingest.sessions.silence", "ingest.gateway.committer"):
        monkeypatch.setattr(f"{module}.time", clock)
    it = Committing(tmp_path, idle_seconds=100.0, sweep_seconds=1.0)

    async def work() -> None:
        nonlocal ahead
        it.disk.full = True
        for _ in range(10):  # for 200 s
            with pytest.raises(LogFull):
                await it.commit(appending(0))
            ahead += 20.0
        it.disk.full = False
        left = it.gateway.index.expires_in(SESSION)
        assert left is not None
        assert left > 50.0
        await it.commit(appending(0))
        ahead += 200.0  # and now it is silent
        await asyncio.to_thread(until, lambda: not len(it.gateway.index), "it is ended for its silence")

    try:
        it.run(work)
    finally:
        it.disk.full = False
        it.gateway.close()
    assert seqs(it.log, SESSION) == [0]
    assert shape(it.log, SESSION) == ["opened", "steps", "ended:timeout"]


def test_a_bug_in_one_request_is_its_own(committing: Committing) -> None:
    def bug(draft: Draft) -> None:
        raise ZeroDivisionError("a bug")

    async def work() -> None:
        outcomes = await asyncio.gather(
            committing.commit(appending(0)),
            committing.commit(bug),
            committing.commit(appending(1)),
            return_exceptions=True,
        )
        assert [type(outcome).__name__ for outcome in outcomes] == ["Appended", "ZeroDivisionError", "Appended"]

    committing.run(work)
    assert seqs(committing.log, SESSION) == [0, 1]


def test_a_request_whose_client_has_gone_is_carried_out_all_the_same(committing: Committing) -> None:
    async def work() -> None:
        committing.disk.sync_seconds = 0.1
        task = asyncio.create_task(committing.commit(appending(0)))
        await committing.under_way()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    committing.run(work)
    until(lambda: seqs(committing.log, SESSION) == [0], "it is durable")


def test_what_waits_at_the_end_is_committed(tmp_path: Path) -> None:
    committing = Committing(tmp_path)

    async def work() -> None:
        committing.disk.sync_seconds = 0.1
        for seq in range(5):
            asyncio.create_task(committing.commit(appending(seq)))  # noqa: RUF006  (nobody waits for it)
        await asyncio.sleep(0)

    committing.run(work)
    committing.gateway.close()
    assert seqs(committing.log, SESSION) == list(range(5))


def test_a_request_that_comes_too_late_is_refused_at_once(committing: Committing) -> None:
    """A share that is dealt to another gateway closes while requests are still on their way to its committer."""

    async def work() -> None:
        committer = committing.gateway.lanes.held[0].committer
        outcomes: list[asyncio.Future[Any]] = []

        async def ask_on() -> None:
            seq = 0
            while not outcomes or not outcomes[-1].done() or not outcomes[-1].exception():
                outcomes.append(asyncio.ensure_future(committing.commit(appending(seq))))
                seq += 1
                await asyncio.wait(outcomes[-1:], timeout=10)
                assert outcomes[-1].done(), "nobody answered"

        asking = asyncio.create_task(ask_on())
        await asyncio.sleep(0.05)
        assert await asyncio.to_thread(committer.stop, 10)
        await asking
        assert isinstance(outcomes[-1].exception(), LogUnavailable)
        assert seqs(committing.log, SESSION) == list(range(len(outcomes) - 1))

    committing.run(work)
