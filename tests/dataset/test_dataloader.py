"""A plain torch DataLoader with worker processes around a mixture: weights reach them, receipts come back."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from dataset import (
    HistorySource,
    InteractiveMixture,
    LayoutError,
    LiveSource,
    Receipt,
    ReceiptError,
    ShardSource,
    make_interactive_dataset,
    merge_states,
    take_receipt,
)
from dataset.board import SLOT, Board
from dataset.errors import StateError
from ingest.sqlite import Layout, SqliteLog
from tests.dataset.streams import MemoryLog, annotated, archive_of, decode, json_copy, key, write_tar

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["dataset.worker"])


def numbered(first: int, count: int) -> list[dict[str, Any]]:
    return [{"key": key(number), "x": number} for number in range(first, first + count)]


def two_lists(**more: Any) -> InteractiveMixture:
    return make_interactive_dataset({"a": numbered(0, 60), "b": numbered(1000, 70)}, **more)


def loader_of(data: InteractiveMixture, workers: int = 2, size: int = 4, **more: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=size, num_workers=workers, **more)


def trained(data: InteractiveMixture, batches: Iterator[Any], steps: int) -> list[Receipt]:
    """So many steps of one batch each, completed at once."""
    receipts = []
    for _ in range(steps):
        receipts.append(take_receipt(next(batches)))
        data.complete(receipts[-1:])
    return receipts


@pytest.mark.parametrize("context", [None, SPAWN], ids=["fork", "forkserver"])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_weights_reach_workers_and_no_more_batches_are_stale_than_were_fetched_ahead(
    context: Any, prefetch: int
) -> None:
    workers = 2
    data = two_lists(weights={"a": 1, "b": 0})
    batches = iter(loader_of(data, workers, prefetch_factor=prefetch, multiprocessing_context=context))
    assert {name for receipt in trained(data, batches, 4) for name in receipt.sources} == {"a"}
    version = data.set_weights({"a": 0, "b": 1}).version
    receipts = trained(data, batches, 20)
    stale = [receipt for receipt in receipts if receipt.version < version]
    assert len(stale) <= workers * prefetch
    fresh = receipts[len(stale) :]
    assert all(receipt.version == version for receipt in fresh)
    assert {name for receipt in fresh for name in receipt.sources} == {"b"}


def test_receipts_of_rows_are_merged_into_that_of_their_batch() -> None:
    data = two_lists()
    batch = next(iter(loader_of(data)))
    receipt = take_receipt(batch)
    assert set(batch) == {"key", "x"}
    assert (receipt.rank, receipt.world, receipt.first_draw, receipt.next_draw) == (0, 2, 0, 4)
    for row, name in enumerate(receipt.sources):
        assert (batch["x"][row] >= 1000) == (name == "b")
    assert data.consumed.sources == {}
    data.complete([receipt])
    assert sum(len(keys) for keys in map(receipt.keys_of, ("a", "b"))) == 4
    with pytest.raises(ReceiptError, match="the next to be completed is 4"):
        data.complete([receipt])


def test_workers_together_read_every_sample_once_an_epoch() -> None:
    data = make_interactive_dataset({"a": numbered(0, 60)})
    receipts = trained(data, iter(loader_of(data, 3)), 15)
    assert sorted(each for receipt in receipts for each in receipt.keys_of("a")) == sorted(map(str, range(60)))


@pytest.mark.parametrize("later", [2, 3, 1, 0])
def test_a_resume_goes_on_exactly_on_the_same_workers_and_without_loss_or_repetition_on_others(
    tmp_path: Path, later: int
) -> None:
    write_tar(tmp_path / "base" / "a.tar", [key(number) for number in range(30)])
    log = SqliteLog(tmp_path / "log", Layout(partitions=2))
    writer = log.writer("annotator")
    writer.commit([annotated(number % 2, [key(100 + number)], float(number)) for number in range(80)])
    writer.close()

    def made() -> InteractiveMixture:
        sources = {"base": ShardSource(tmp_path / "base", decode=decode), "live": LiveSource(log, decode=decode)}
        return make_interactive_dataset(sources, seed=4)

    data = made()
    batches = iter(loader_of(data))
    read = trained(data, batches, 7)
    data.set_weights({"live": 3})
    read += trained(data, batches, 4)
    state = json_copy(merge_states([data.state_dict()]))
    assert state["world"] == 2
    for _ in range(2):  # twice in a row
        data = made()
        data.load_state_dict(state)
        assert data.weights.by_source == {"base": 1, "live": 3}
        if later:
            after = trained(data, iter(loader_of(data, later)), 8)
        else:
            after = []
            for _ in range(8):
                _, receipt = data.take(4)
                data.complete([receipt])
                after.append(receipt)
        live = [each for receipt in read + after for each in receipt.keys_of("live")]
        assert len(live) == len(set(live))
        assert all(receipt.version == 1 for receipt in after)
    if later == 2:
        other = made()
        other.load_state_dict(state)
        again = trained(other, iter(loader_of(other, 2)), 8)
        assert [receipt.keys for receipt in again] == [receipt.keys for receipt in after]
    everything = sorted(key(100 + number) for number in range(80))
    data.set_weights({"base": 0, "live": 1})
    while len(live) < 80:
        (item,), receipt = data.take(1)
        data.complete([receipt])
        live.append(item.key)
    assert sorted(live) == everything


@pytest.mark.parametrize("persistent", [False, True])
def test_a_second_iteration_begins_after_what_was_completed(persistent: bool) -> None:
    data = make_interactive_dataset({"a": numbered(0, 60)}, seed=2)
    loader = loader_of(data, persistent_workers=persistent)
    receipts = []
    for _ in range(3):
        batches = iter(loader)
        receipts += trained(data, batches, 4)
        next(batches)  # a batch that is dropped, and others that were fetched ahead
    keys = [each for receipt in receipts for each in receipt.keys]
    assert len(keys) == len(set(keys)) == 48


def test_a_state_that_is_loaded_reaches_persistent_workers() -> None:
    data = two_lists()
    loader = loader_of(data, persistent_workers=True)
    trained(data, iter(loader), 3)
    state = json_copy(data.state_dict())
    whole = [receipt.keys for receipt in trained(data, iter(loader), 6)]
    data.set_weights({"a": 0})
    trained(data, iter(loader), 1)
    for _ in range(2):
        data.load_state_dict(state)
        assert [receipt.keys for receipt in trained(data, iter(loader), 6)] == whole


def test_batches_from_before_a_load_are_refused() -> None:
    data = two_lists()
    state = json_copy(data.state_dict())
    batches = iter(loader_of(data))
    receipt = take_receipt(next(batches))
    data.load_state_dict(state)
    with pytest.raises(ReceiptError, match="before the stream was restored"):
        data.complete([receipt])
    trained(data, iter(loader_of(data)), 1)


def test_reading_in_this_process_goes_on_where_workers_stood() -> None:
    data = make_interactive_dataset({"a": numbered(0, 60)})
    receipts = trained(data, iter(loader_of(data)), 6)
    _, receipt = data.take(36)
    assert sorted([*receipt.keys, *(each for r in receipts for each in r.keys)]) == sorted(map(str, range(60)))


def test_history_follows_what_was_completed_and_its_snapshots_come_back(tmp_path: Path) -> None:
    log = MemoryLog(2)
    for number in range(60):
        log.append(number % 2, [key(number)], float(number))
    archive = archive_of(log, tmp_path / "archive")

    def made() -> InteractiveMixture:
        sources = {"live": LiveSource(log, decode=decode), "history": HistorySource(archive, decode=decode)}
        return make_interactive_dataset(sources, {"live": 1, "history": 1})

    data = made()
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    batches = iter(loader_of(data, prefetch_factor=1))
    for receipt in (trained(data, batches, 1)[0] for _ in range(20)):
        for name, each in zip(receipt.sources, receipt.keys, strict=True):
            assert name == "live" or each in seen
            counts[name] += 1
            seen.update([each] if name == "live" else [])
    assert counts["history"] > 5
    state = json_copy(data.state_dict())
    runs = []
    for _ in range(2):
        again = made()
        again.load_state_dict(state)
        runs.append([receipt.keys for receipt in trained(again, iter(loader_of(again)), 3)])
    assert runs[0] == runs[1]


def test_ranks_with_workers_read_different_samples() -> None:
    keys = []
    for rank in range(2):
        data = make_interactive_dataset({"a": numbered(0, 64)})
        data.set_layout(rank, 2)
        keys += [each for receipt in trained(data, iter(loader_of(data)), 8) for each in receipt.keys]
    assert sorted(keys) == sorted(map(str, range(64)))


def test_receipts_of_another_number_of_workers_are_refused() -> None:
    data = two_lists()
    trained(data, iter(loader_of(data, 2)), 1)
    receipt = take_receipt(next(iter(loader_of(data, 3))))
    with pytest.raises(LayoutError, match="a receipt is of rank 0 of 3, but rank 0 of 1 is read by 2 workers"):
        data.complete([receipt])


# The board


def test_a_board_shows_the_newest_notice_once_and_survives_a_torn_one() -> None:
    board = Board()
    assert board.news() is None
    for number in range(5):
        board.write(f"notice {number}".encode())
        assert board.news() == f"notice {number}".encode()
        assert board.news() is None
    board.write(b"whole")
    slot = 64 + (board._written + 1) % 2 * SLOT
    board._memory[slot : slot + 40] = b"\xff" * 40  # a writer that died while it wrote the next one
    board._memory[:8] = (99).to_bytes(8, "little")
    assert board.news() == b"whole"
    with pytest.raises(StateError, match="read with num_workers=0"):
        board.write(bytes(SLOT))


def test_an_annex_that_is_too_large_is_left_out() -> None:
    board = Board()
    assert board.write_annex(b"a state")
    assert board.annex() == b"a state"
    assert not board.write_annex(bytes(9 << 20))
    assert board.annex() == b""
