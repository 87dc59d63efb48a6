"""A disk that takes its time keeps nobody waiting who only looks."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from control import EventType, FakeActor
from control.server.desk import Desk
from tests.control.servers import HTTP, Served
from tests.control.test_watchers import watch
from tests.waiting import until


def test_work_is_done_in_order_on_one_thread_and_what_it_raises_is_raised() -> None:
    async def main() -> None:
        desk, done, told = Desk(), list[int](), list[int]()
        desk.open()

        def work(n: int) -> int:
            assert threading.current_thread().name == "control-desk"
            done.append(n)
            desk.tell(told.append, n)
            return n * 2

        found = await asyncio.gather(*(desk.do(work, n) for n in range(50)))
        assert (found, done, told) == ([n * 2 for n in range(50)], list(range(50)), list(range(50)))
        with pytest.raises(ZeroDivisionError):
            await desk.do(lambda: 1 // 0)
        desk.later(work, 99)
        await desk.close()
        assert done[-1] == 99

    asyncio.run(main())


def test_who_gives_up_waiting_does_not_undo_the_work() -> None:
    async def main() -> None:
        desk, go_on, done = Desk(), threading.Event(), list[str]()
        desk.open()

        def slow() -> None:
            go_on.wait(10)
            done.append("done")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await desk.do(slow)
        go_on.set()
        assert await desk.do(lambda: "next") == "next"
        assert done == ["done"]
        await desk.close()

    asyncio.run(main())


def test_reading_watching_and_probing_go_on_while_the_disk_hangs(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.thread._server is not None
    store, go_on = served.thread._server._store, threading.Event()
    with FakeActor(served.url, served.tokens.operate) as trainer:
        trainer.connection.tell(EventType.METRICS, {"loss": 1.0}, step=1)
        until(lambda: served.client.run("demo").step == 1)
        append = store.append

        def hanging(*args: object, **kwargs: object) -> object:
            go_on.wait(20)
            return append(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "append", hanging)
        trainer.connection.tell(EventType.METRICS, {"loss": 2.0}, step=2)
        time.sleep(0.3)  # by now the write hangs
        began = time.monotonic()
        assert served.client.run("demo").step == 1
        assert served.client.series("demo", ["loss"]).series[0].mean == (1.0,)
        assert HTTP.get(served.url + "/livez").status_code == 200
        with watch(served, "?since=0") as watcher:
            assert watcher.recv(timeout=5)
            assert watcher.recv(timeout=5)
        assert not go_on.is_set()
        assert time.monotonic() - began < 15
        go_on.set()
        until(lambda: served.client.run("demo").step == 2)
