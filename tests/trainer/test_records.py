"""The folder of a run: segments, checkpoints and the record of what was trained; whole or absent, and never overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from control import RunStatus
from dataset import Receipt
from trainer import (
    BranchError,
    CheckpointForeign,
    CheckpointMissing,
    Checkpoints,
    RunFolder,
    RunLocked,
    StartReason,
    trained_along,
    trained_in,
)
from trainer.checkpoints import Card, Checkpoint, new_card, prepare
from trainer.journal import TrainedJournal
from trainer.segments import Fork, Segment


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def opened(folder: RunFolder, branch: str = "main", parent: Checkpoint | None = None) -> Segment:
    reason = StartReason.FRESH if parent is None else StartReason.LOAD
    return folder.open_segment("run", branch, reason, parent.fork if parent else None)


def saved(folder: RunFolder, segment: Segment, step: int) -> Checkpoint:
    checkpoints = Checkpoints(folder)
    staging = checkpoints.staging(segment.id)
    prepare(staging)
    staged = staging / f"checkpoint-{step}"
    staged.mkdir()
    (staged / "weights").write_bytes(b"w" * step)
    card = new_card(segment, step, 0, "test", 1)
    return checkpoints.publish(staged, checkpoints.target(card), card)


def receipt(*keys: str) -> Receipt:
    return Receipt(0, 1, 1, 0, 0, ("live",) * len(keys), {"live": keys}, (None,) * len(keys), {})


def test_segments_are_numbered_and_never_share_a_folder(folder: RunFolder) -> None:
    first = opened(folder)
    (folder.path / "segments" / "s000002").mkdir()  # a process died before it could say what this was to be
    second = opened(folder, "b")
    assert [first.id, second.id] == ["s000001", "s000003"]
    assert [segment.id for segment in folder.segments()] == ["s000001", "s000003"]


def test_a_chain_is_cut_where_the_next_segment_forks(folder: RunFolder) -> None:
    first = opened(folder)
    at_four = saved(folder, first, 4)
    saved(folder, first, 9)
    second = opened(folder, "b", at_four)
    at_six = saved(folder, second, 6)
    third = opened(folder, "c", at_six)
    assert [(part.segment.id, part.until) for part in folder.chain(third.id)] == [
        (first.id, 4),
        (second.id, 6),
        (third.id, None),
    ]


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a/b", "x" * 65, "a b", "main", "Main"])
def test_branch_names_that_no_folder_should_have_are_refused(folder: RunFolder, name: str) -> None:
    opened(folder)
    with pytest.raises(BranchError, match="branch_name"):
        folder.new_branch(name)


def test_a_branch_without_a_name_gets_one_that_is_free(folder: RunFolder) -> None:
    opened(folder)
    opened(folder, "branch-3")
    assert folder.new_branch(None) == "branch-4"


def test_only_whole_checkpoints_are_listed(folder: RunFolder) -> None:
    segment = opened(folder)
    whole = saved(folder, segment, 4)
    torn = folder.folder_of(segment.id) / "checkpoint-9"
    torn.mkdir()
    (torn / "weights").write_bytes(b"half")
    checkpoints = Checkpoints(folder)
    assert [each.path for each in checkpoints.all()] == [whole.path]
    newest = checkpoints.latest()
    assert newest is not None
    assert newest.path == whole.path
    with pytest.raises(CheckpointMissing, match="the newest is"):
        checkpoints.find("nobody")


def test_a_file_that_changed_its_size_is_found_out(folder: RunFolder) -> None:
    checkpoint = saved(folder, opened(folder), 4)
    checkpoint.check()
    (checkpoint.path / "weights").write_bytes(b"w")
    with pytest.raises(CheckpointForeign, match="weights has 1 bytes and was saved with 4"):
        checkpoint.check()
    (checkpoint.path / "weights").unlink()
    with pytest.raises(CheckpointForeign, match="weights is missing"):
        checkpoint.check()


def test_a_crashed_segment_without_a_checkpoint_begins_again_where_it_began(folder: RunFolder) -> None:
    first = opened(folder)
    at_four = saved(folder, first, 4)
    saved(folder, first, 9)
    opened(folder, "b", at_four)
    newest = Checkpoints(folder).latest()
    assert newest is not None
    assert (newest.branch, newest.path, newest.reason) == ("b", at_four.path, StartReason.RESUME)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(folder: RunFolder) -> None:
    first = opened(folder)
    at_four, at_nine = saved(folder, first, 4), saved(folder, first, 9)
    (at_nine.path / "weights").write_bytes(b"short")
    newest = Checkpoints(folder).latest()
    assert newest is not None
    assert newest.path == at_four.path
    opened(folder, "b", at_nine)
    newest = Checkpoints(folder).latest()
    assert newest is not None
    assert (newest.path, newest.branch) == (at_four.path, "b")
    (at_four.path / "weights").unlink()
    with pytest.raises(CheckpointMissing, match="neither this checkpoint nor one before it"):
        Checkpoints(folder).latest()


def test_a_run_whose_folder_was_moved_is_resumed(folder: RunFolder, tmp_path: Path) -> None:
    first = opened(folder)
    at_four = saved(folder, first, 4)
    opened(folder, "b", at_four)
    moved = tmp_path / "elsewhere"
    folder.path.rename(moved)
    newest = Checkpoints(RunFolder(moved)).latest()
    assert newest is not None
    assert newest.path == moved / at_four.path.relative_to(folder.path)


def test_a_resumed_branch_keeps_so_many_checkpoints_in_all(folder: RunFolder) -> None:
    first = opened(folder)
    for step in (1, 2, 3):
        last = saved(folder, first, step)
    second = folder.open_segment("run", "main", StartReason.RESUME, last.fork)
    checkpoints = Checkpoints(folder)
    checkpoints.prune(1)
    # the newest segment has none of its own yet and needs the one that it began at
    assert [each.card.step for each in checkpoints.all()] == [3]
    saved(folder, second, 4)
    checkpoints.prune(1)
    assert [each.card.step for each in checkpoints.all()] == [4]


def test_a_foreign_format_is_refused_by_name(folder: RunFolder) -> None:
    segment = opened(folder)
    path = folder.folder_of(segment.id) / "segment.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "format": 99}))
    with pytest.raises(CheckpointForeign, match="format 99, only 1 is known here"):
        folder.segments()
    path.write_text("{}")
    with pytest.raises(CheckpointForeign, match="not a Segment"):
        folder.segments()


def test_one_trainer_a_run(folder: RunFolder) -> None:
    program = (
        "import sys; from pathlib import Path; from trainer.segments import RunFolder\n"
        f"with RunFolder(Path({str(folder.path)!r})).lock(): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunLocked, match=f"process {other.pid} trains this run"), folder.lock():
            pass
    finally:
        other.kill()
        other.communicate()
    with folder.lock():  # the system frees what a dead process held
        pass


def test_the_record_of_a_run(folder: RunFolder) -> None:
    assert folder.record() is None
    folder.set_status("run", RunStatus.STOPPED, "by hand")
    record = folder.record()
    assert record is not None
    assert (record.run, record.status, record.reason) == ("run", RunStatus.STOPPED, "by hand")


def test_what_was_trained_is_read_along_the_chain(folder: RunFolder) -> None:
    first = opened(folder)
    journal = TrainedJournal(folder.folder_of(first.id), 0)
    for step in range(1, 8):
        journal.write(step, [receipt(f"k{step}")])
    journal.close()
    second = folder.open_segment("run", "b", StartReason.LOAD, Fork(first.id, 4, "", ""))
    other = TrainedJournal(folder.folder_of(second.id), 0)
    other.write(5, [receipt("k5", "again")])
    other.write(6, [])
    other.close()
    assert [(segment, entry.step) for segment, entry in trained_along(folder)] == [
        *((first.id, step) for step in range(1, 5)),
        (second.id, 5),
    ]
    assert [entry.keys for _, entry in trained_along(folder)][-1] == {"live": ["k5", "again"]}


def test_a_torn_line_is_left_out(folder: RunFolder) -> None:
    segment = folder.folder_of(opened(folder).id)
    journal = TrainedJournal(segment, 0)
    journal.write(1, [receipt("a")])
    journal.close()
    file = next((segment / "trained").iterdir())
    file.write_bytes(file.read_bytes() + b'[2, 1.0, {"li')
    assert [entry.step for entry in trained_in(segment)] == [1]


def test_the_record_of_what_was_trained_is_bounded(folder: RunFolder) -> None:
    segment = folder.folder_of(opened(folder).id)
    journal = TrainedJournal(segment, 0, file_bytes=200, kept_files=3)
    for step in range(100):
        journal.write(step, [receipt(f"key-{step}")])
    journal.close()
    files = sorted((segment / "trained").iterdir())
    assert len(files) == 3
    assert sum(file.stat().st_size for file in files) < 3 * 300
    assert [entry.step for entry in trained_in(segment)][-1] == 99


def test_a_record_that_cannot_be_written_costs_lines_and_not_the_run(folder: RunFolder) -> None:
    segment = folder.folder_of(opened(folder).id)
    (segment / "trained").write_bytes(b"a file where a folder should be")
    journal = TrainedJournal(segment, 0)
    journal.write(1, [receipt("a")])
    (segment / "trained").unlink()
    journal.write(2, [receipt("b")])
    journal.close()
    assert [entry.step for entry in trained_in(segment)] == [2]


def test_cards_say_what_a_checkpoint_is(folder: RunFolder) -> None:
    checkpoint = saved(folder, opened(folder), 4)
    assert isinstance(checkpoint.card, Card)
    assert (checkpoint.card.run, checkpoint.card.branch, checkpoint.card.step) == ("run", "main", 4)
    assert (checkpoint.bytes, dict(checkpoint.card.files)) == (4, {"weights": 4})
