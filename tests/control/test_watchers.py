"""Those who watch miss nothing and get nothing twice, whatever happens to their line."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from control import ActorConnection, ControlClient, Event, EventType, FakeActor
from control.api import WatchWelcome
from control.client import WATCHED
from control.server.hub import Hub
from tests.control.conftest import Serve
from tests.control.servers import Served, ServedProcess
from tests.control.test_actors import cut_lines, line_to
from tests.waiting import until


def watch(served: Served | ServedProcess, query: str = "", **options: object) -> ClientConnection:
    return connect(
        served.url.replace("http", "ws") + "/api/v1/events" + query,
        additional_headers={"Authorization": f"Bearer {served.tokens.read}"},
        max_size=64 << 20,
        **options,  # type: ignore[arg-type]
    )


def hub_of(served: Served) -> Hub:
    """What the server itself counts."""
    assert served.thread._server is not None
    hub = served.thread._server.app.state.hub
    assert isinstance(hub, Hub)
    return hub


def numbers(line: ActorConnection, first: int, count: int) -> None:
    for n in range(first, first + count):
        line.tell(EventType.METRICS, {"n": n}, step=n)


@pytest.fixture
def line(served: Served) -> Iterator[ActorConnection]:
    line = line_to(served.url, served.tokens.operate)
    assert line.start(10)
    yield line
    line.close()


def test_the_first_message_says_where_the_record_stands(served: Served, line: ActorConnection) -> None:
    numbers(line, 0, 5)
    until(lambda: served.client.history().last >= 6)
    with watch(served, "?since=4") as socket_:
        welcome = WATCHED.validate_json(socket_.recv(timeout=5))
        assert isinstance(welcome, WatchWelcome)
        assert (welcome.first, welcome.last) == (1, 6)
        message = json.loads(socket_.recv(timeout=5))
        assert [event["seq"] for event in message["events"]] == [5, 6]
        assert message["last"] == 6


def test_without_a_number_only_what_is_new_comes(served: Served, line: ActorConnection) -> None:
    numbers(line, 0, 5)
    until(lambda: served.client.history().last >= 6)
    with watch(served) as socket_:
        socket_.recv(timeout=5)
        numbers(line, 5, 1)
        [event] = json.loads(socket_.recv(timeout=5))["events"]
        assert event["body"] == {"n": 5}


def test_only_what_was_asked_for_comes_and_the_place_moves_past_the_rest(served: Served, line: ActorConnection) -> None:
    with watch(served, "?since=0&run=demo&type=log&type=health") as socket_:
        socket_.recv(timeout=5)
        numbers(line, 0, 50)
        line.tell(EventType.LOG, {"message": "here"})
        message = json.loads(socket_.recv(timeout=5))
        assert [event["body"] for event in message["events"]] == [{"message": "here"}]
        assert message["last"] >= 52
    with watch(served, "?since=0&run=other") as socket_:
        socket_.recv(timeout=5)
        with pytest.raises(TimeoutError):
            socket_.recv(timeout=0.3)


def test_numbers_that_are_no_numbers_arrive_as_null(served: Served, line: ActorConnection) -> None:
    with watch(served, "?since=0&type=metrics") as socket_:
        socket_.recv(timeout=5)
        line.tell(EventType.METRICS, {"loss": float("nan"), "grad_norm": float("inf"), "deep": {"x": [float("-inf")]}})
        text = socket_.recv(timeout=5)
        [event] = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["events"]
        assert event["body"] == {"loss": None, "grad_norm": None, "deep": {"x": [None]}}
    for path in ("runs/demo", "events", "runs/demo/metrics/series", "runs"):
        assert served.client._http.get(f"/api/v1/{path}").status_code == 200
    assert served.client._http.get("/metrics").status_code == 200
    assert served.client.series("demo", ["loss"]).series == ()  # nothing without a step
    line.tell(EventType.METRICS, {"loss": float("nan")}, step=1)
    until(lambda: served.client.series("demo", ["loss"]).series)
    assert served.client.series("demo", ["loss"]).series[0].mean == (None,)


@pytest.mark.parametrize("total", [4000, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_eight_clients_get_every_event_once_through_cut_lines(
    served: Served, line: ActorConnection, total: int
) -> None:
    found = [list[int]() for _ in range(8)]
    asleep = watch(served, "?since=0", sock=narrow_line(served), max_queue=1, close_timeout=0.1)  # reads nothing

    def follow(index: int) -> None:
        with ControlClient(served.url, served.tokens.read) as client:
            for event in client.events(0, run="demo", types=[EventType.METRICS], idle=20):
                found[index].append(int(event.body["n"]))
                if event.body["n"] == total - 1:
                    return

    threads = [threading.Thread(target=follow, args=(index,), daemon=True) for index in range(8)]
    for thread in threads:
        thread.start()
    for begin in range(0, total, 1000):
        numbers(line, begin, 1000)
        until(lambda begin=begin: any(known and known[-1] >= begin + 200 for known in found))  # type: ignore[misc]
        if begin < total - 1000:
            cut_lines(served)
    for thread in threads:
        thread.join(120)
    asleep.close()
    assert all(known == list(range(total)) for known in found), [len(known) for known in found]


def test_a_client_far_behind_the_ring_reads_back_and_then_follows(serve: Serve) -> None:
    served = serve(ring=64)
    line = line_to(served.url, served.tokens.operate)
    line.start(10)
    numbers(line, 0, 2500)
    until(lambda: served.client.run("demo").step == 2499)
    found = []
    with ControlClient(served.url, served.tokens.read) as client:
        for event in client.events(0, types=[EventType.METRICS], idle=10):
            found.append(int(event.body["n"]))
            if len(found) == 1200:
                numbers(line, 2500, 500)
            if len(found) == 3000:
                break
    assert found == list(range(3000))
    line.close()


def narrow_line(served: Served) -> socket.socket:
    """A connection that holds little before its sender feels that nobody reads."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", int(served.url.rsplit(":", 1)[1])))
    return made


def lines(served: Served, since: int, last: int) -> list[int]:
    """The numbers of the lines after `since`, up to `last`, as a client that reads gets them."""
    found = []
    with ControlClient(served.url, served.tokens.read) as client:
        for event in client.events(since, types=[EventType.LOG], idle=30):
            found.append(int(event.body["n"]))
            if found[-1] == last:
                break
    return found


def drain(slow: ClientConnection) -> tuple[int, int | None]:
    """Read to the end: the last place that was told, and the code of the close."""
    place = 0
    try:
        while True:
            place = json.loads(slow.recv(timeout=10)).get("last", place)
    except ConnectionClosed as closed:
        return place, closed.rcvd.code if closed.rcvd else None


def test_a_client_that_does_not_read_costs_nobody_anything_and_is_sent_away(serve: Serve) -> None:
    served = serve(client_stall=0.3)
    line = line_to(served.url, served.tokens.operate)
    line.start(10)
    hub = hub_of(served)
    with watch(served, "?since=0", sock=narrow_line(served), max_queue=1, close_timeout=1) as slow:
        until(lambda: hub.watchers == 1)
        for n in range(400):
            line.tell(EventType.LOG, {"message": "x" * 60_000, "n": n})
        assert lines(served, 0, 399) == list(range(400))
        until(lambda: hub.watchers == 0)
        place, _ = drain(slow)
    rest = lines(served, place, 399)
    assert rest == list(range(rest[0], 400))
    line.close()


def test_a_client_that_was_too_slow_is_told_1013_and_where_to_go_on(serve: Serve) -> None:
    served = serve(client_stall=2.0)
    line = line_to(served.url, served.tokens.operate)
    line.start(10)
    hub = hub_of(served)
    with watch(served, "?since=0", sock=narrow_line(served), max_queue=1, close_timeout=1) as slow:
        for n in range(400):
            line.tell(EventType.LOG, {"message": "x" * 60_000, "n": n})
        until(lambda: hub.sent_away == 1)
        place, code = drain(slow)
    assert code == 1013
    assert 0 < place < hub.last
    line.close()


def test_a_tab_that_is_closed_is_noticed_though_nothing_happens(served: Served) -> None:
    hub = hub_of(served)
    sockets = [watch(served, legacy=True) for _ in range(12)]
    until(lambda: hub.watchers == 12)
    for socket_ in sockets:
        socket_.close()
    until(lambda: hub.watchers == 0)


def test_a_stream_goes_on_over_a_killed_server(served_process: ServedProcess) -> None:
    served = served_process
    found: list[Event] = []

    def follow() -> None:
        with ControlClient(served.url, served.tokens.read) as client:
            for event in client.events(0, types=[EventType.METRICS]):
                found.append(event)
                if event.body["n"] == 599:
                    return

    watcher = threading.Thread(target=follow, daemon=True)
    watcher.start()
    with FakeActor(served.url, served.tokens.operate) as trainer:
        numbers(trainer.connection, 0, 300)
        until(lambda: len(found) >= 100)
        served.kill()
        numbers(trainer.connection, 300, 300)
        served.start()
        watcher.join(20)
    assert [event.body["n"] for event in found] == list(range(600))
    assert [event.seq for event in found] == sorted({event.seq for event in found})


def test_a_number_from_another_store_is_seen_to_be_one(served: Served, line: ActorConnection) -> None:
    with watch(served, "?since=999999") as socket_:
        welcome = WATCHED.validate_json(socket_.recv(timeout=5))
        assert isinstance(welcome, WatchWelcome)
        assert welcome.last < 999999
        assert welcome.store
        numbers(line, 0, 1)
        assert json.loads(socket_.recv(timeout=5))["events"]
