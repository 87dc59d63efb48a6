"""The log in memory keeps the contract of a log, as far as one process can tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.errors import LogLocked
from ingest.log import Log, LogWriter
from ingest.memory import MemoryLog, MemoryWriter
from tests.ingest import test_log_contract as contract
from tests.ingest.conftest import LogFactory


class MemoryFactory(LogFactory):
    def make(self) -> Log:
        return MemoryLog(4)

    def leave_gap(self, writer: LogWriter, topic: str, partition: int, count: int) -> None:
        assert isinstance(writer, MemoryWriter)
        writer.log.skip(topic, partition, count)


@pytest.mark.parametrize(
    "promise",
    [
        contract.test_records_come_back_as_they_were_written_and_in_order,
        contract.test_partitions_and_topics_are_independent,
        contract.test_a_writer_refuses_what_is_not_its_own,
        contract.test_records_and_state_are_committed_together_or_not_at_all,
        contract.test_a_fetch_is_bounded_by_bytes_but_never_empty_while_there_is_a_record,
        contract.test_a_reader_passes_over_gaps,
        contract.test_trimmed_records_are_gone_and_asking_for_them_says_so,
        contract.test_offsets_are_never_used_again_after_everything_was_trimmed,
        contract.test_a_log_that_nobody_has_written_yet_is_empty_and_its_first_record_is_noticed,
        contract.test_news_since_the_last_wait_are_not_missed,
        contract.test_a_log_behaves_like_a_list_with_holes,
    ],
    ids=lambda promise: promise.__name__.removeprefix("test_"),
)
def test_it_keeps_the_contract(promise: Callable[..., None], tmp_path: Path) -> None:
    promise(log_factory=MemoryFactory(tmp_path))


def test_a_second_writer_is_refused_until_the_first_one_closes() -> None:
    log = MemoryLog()
    writer = log.writer("gateway")
    with pytest.raises(LogLocked):
        log.writer("gateway")
    writer.close()
    log.writer("gateway").close()
