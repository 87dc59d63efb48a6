"""Claims: of all who claim a name, everyone is told the same."""

from __future__ import annotations

import threading

import pytest

from ingest.claims import ClaimingLog
from ingest.memory import MemoryLog
from tests.ingest.conftest import LogFactory


@pytest.fixture
def log(log_factory: LogFactory) -> ClaimingLog:
    made = log_factory.make()
    assert isinstance(made, ClaimingLog)
    return made


def test_a_log_in_memory_decides_too() -> None:
    log = MemoryLog()
    assert [log.claims().claim("a", value) for value in (b"1", b"2")] == [b"1", b"1"]


def test_the_first_value_stands(log: ClaimingLog) -> None:
    one, other = log.claims(), log.claims()
    assert one.claim("a", b"1") == b"1"
    assert other.claim("a", b"2") == b"1"
    assert other.claim("b", b"2") == b"2"
    assert one.claim("b", b"1") == b"2"
    one.close()
    other.close()
    assert log.claims().claim("a", b"3") == b"1"


def test_of_many_at_once_all_are_told_the_same(log: ClaimingLog) -> None:
    told: dict[int, list[bytes]] = {}

    def claim_all(number: int) -> None:
        claims = log.claims()
        told[number] = [claims.claim(f"name {name}", b"%d" % number) for name in range(20)]

    threads = [threading.Thread(target=claim_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert all(found == told[0] for found in told.values())
