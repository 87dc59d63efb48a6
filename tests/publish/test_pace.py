"""Not faster than allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publish.pace import Bucket, LimitedFile


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_there_is_given_at_once_and_the_rest_in_time() -> None:
    clock = Clock()
    bucket = Bucket(2, 10, clock)
    assert bucket.take(10) == 0
    assert bucket.take(4) == 2
    clock.now = 2
    assert bucket.take(4) == 0
    assert bucket.take(1, leave=3) == 2
    clock.now = 100
    assert bucket.take(10, leave=99) == 0, "more than it ever holds cannot be left"


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), max_size=40))
def test_never_more_goes_out_than_the_capacity_and_the_rate_allow(asked: list[tuple[float, int]]) -> None:
    clock = Clock()
    bucket, out = Bucket(7, 20, clock), 0.0
    for pause, tokens in asked:
        clock.now += pause
        clock.now += bucket.spend(tokens)
        out += tokens
        assert out <= 20 + 7 * clock.now + 1e-6


def test_a_limited_file_reads_what_is_in_it_and_sleeps_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    slept: list[float] = []
    file = LimitedFile(tmp_path / "file", Bucket(10, 10, Clock()), slept.append)
    with file:
        assert file.read(60) == bytes(range(60))
        file.seek(0)
        assert file.read() == bytes(range(100))
    assert slept == [5.0, 15.0]
    assert file.closed


def test_a_bucket_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        Bucket(0, 1)
