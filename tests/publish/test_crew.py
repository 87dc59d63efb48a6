"""Work beside training and serving: in order, and behind whatever else the process does."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from publish.crew import NICER, be_nice, beside, in_order


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
