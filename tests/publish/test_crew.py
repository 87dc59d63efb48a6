"""Work beside training and serving: in order, and behind whatever else the process does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from publish import crew
from publish.crew import NICER, PIECE, PIECES, LastInLine, Pace, be_nice, beside, in_order
from tests.waiting import until


def test_what_one_of_many_raises_is_raised_in_its_place() -> None:
    results = in_order(lambda number: 6 // number, [1, 2, 0, 3])
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_work_beside_returns_and_raises_where_it_is_waited_for() -> None:
    with beside(threading.get_ident) as made:
        assert made() != threading.get_ident()
    with beside(lambda: 1 // 0) as broken, pytest.raises(ZeroDivisionError):
        broken()


def test_a_nice_thread_is_as_nice_however_often_it_says_so_and_takes_no_other_along() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)

    def niceness() -> int:
        be_nice()
        be_nice()
        return os.getpriority(os.PRIO_PROCESS, 0)

    with beside(niceness) as told:
        assert told() == (min(19, before + NICER) if sys.platform == "linux" else before)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_requests_get_their_turn_after_so_many_bytes_or_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[None] = []
    monkeypatch.setattr(crew, "breathe", lambda: turns.append(None))
    pace = Pace()
    for _ in range(3 * PIECES):
        pace.did(1)
    assert len(turns) == 3
    pace.did(PIECE)
    pace.did(PIECE - 1)
    assert len(turns) == 4
    pace.did(1)
    assert len(turns) == 5


def policies(started: ThreadPoolExecutor) -> tuple[int, int]:
    """Of this thread, and of one that it started."""
    return os.sched_getscheduler(0), started.submit(os.sched_getscheduler, 0).result()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has threads that come after all others")
def test_who_is_last_in_line_is_so_for_a_bounded_time_with_all_that_it_started(may_set_priorities: bool) -> None:
    last = os.SCHED_IDLE if may_set_priorities else os.SCHED_OTHER  # who could not come back never goes
    with ThreadPoolExecutor(1) as started, LastInLine(3600).working():
        assert policies(started) == (last, last)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    with ThreadPoolExecutor(1) as started, LastInLine(0.2).working():
        assert policies(started) == (last, last)
        until(lambda: policies(started) == (os.SCHED_OTHER, os.SCHED_OTHER), "its turn has come")
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture
def may_set_priorities() -> bool:
    """Whether a process of this machine may become less nice again."""
    program = "import os; os.nice(1); os.nice(-1)"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0
