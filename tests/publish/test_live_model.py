"""A model that is replaced while it serves."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from publish import LiveModel, NotServing
from publish.loading import Modules
from tests.publish.parts import Uniform, served_value, value_of, weights_of


def folder_of(root: Path, value: int) -> Path:
    folder = root / f"v{value}"
    folder.mkdir(parents=True)
    weights_of(value)(folder)
    return folder


@pytest.fixture
def live(tmp_path: Path) -> LiveModel:
    return LiveModel(Uniform(), folder_of(tmp_path, 0))


def test_the_packaged_base_serves_until_there_is_a_version(live: LiveModel, tmp_path: Path) -> None:
    with live.use() as served:
        assert (served.version, served.label, value_of(served.module)) == (None, "base", 0)
    live.swap(folder_of(tmp_path, 1), 1, "one")
    with live.use() as served:
        assert (served.version, served.label, value_of(served.module)) == (1, "000001", 1)
        assert served.folder == tmp_path / "v1"


def test_without_base_and_version_a_request_is_told_so(tmp_path: Path) -> None:
    live = LiveModel(Uniform())
    assert live.current is None
    with pytest.raises(NotServing, match="wait for the follower"), live.use():
        pass
    live.swap(folder_of(tmp_path, 1), 1, "one")
    assert served_value(live) == 1


def test_a_request_keeps_its_version_through_any_number_of_swaps(live: LiveModel, tmp_path: Path) -> None:
    with live.use() as pinned:
        for value in range(1, 7):
            live.swap(folder_of(tmp_path, value), value, str(value))
            assert value_of(pinned.module) == 0
            assert served_value(live) == value
    assert pinned.label == "base"


def test_a_swap_that_fails_changes_nothing(live: LiveModel, tmp_path: Path) -> None:
    def refuse(weights: object) -> None:
        raise RuntimeError("the warm-up found NaN")

    fussy = LiveModel(Uniform(), folder_of(tmp_path, 5))
    fussy._warm_up = refuse
    with pytest.raises(RuntimeError, match="NaN"):
        fussy.swap(folder_of(tmp_path, 6), 6, "six")
    assert served_value(fussy) == 5

    def forget() -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        live.swap(folder_of(tmp_path, 1), 1, "one", remember=forget)
    assert served_value(live) == 0


def test_a_new_version_is_warmed_up_before_any_request_gets_it(tmp_path: Path) -> None:
    warmed: list[float] = []
    live: LiveModel = LiveModel(
        Uniform(), folder_of(tmp_path, 0), warm_up=lambda weights: warmed.append(value_of(weights))
    )
    assert warmed == [0]
    live.swap(folder_of(tmp_path, 1), 1, "one")
    assert warmed == [0, 1]


def test_a_rollback_is_instant_and_goes_one_back(live: LiveModel, tmp_path: Path) -> None:
    for value in (1, 2):
        live.swap(folder_of(tmp_path, value), value, str(value))
    assert live.previous is not None
    assert live.previous.version == 1
    began = time.perf_counter()
    assert live.rollback().version == 1
    assert time.perf_counter() - began < 0.5
    assert served_value(live) == 1
    with pytest.raises(NotServing, match="no previous version"):
        live.rollback()
    live.swap(folder_of(tmp_path, 3), 3, "three")
    assert live.rollback().version == 1


def test_the_version_before_is_served_again_without_loading(live: LiveModel, tmp_path: Path) -> None:
    for value in (1, 2):
        live.swap(folder_of(tmp_path, value), value, str(value))
    swap = live.swap(tmp_path / "gone", 1, "1")
    assert (swap.load_seconds, swap.warm_up_seconds) == (0, 0)
    assert served_value(live) == 1
    assert live.previous is not None
    assert live.previous.version == 2


def test_a_rollback_in_the_middle_of_a_swap_does_not_disturb_it(live: LiveModel, tmp_path: Path) -> None:
    for value in (1, 2):
        live.swap(folder_of(tmp_path, value), value, str(value))
    live.swap(folder_of(tmp_path, 3), 3, "3", remember=live.rollback)
    assert served_value(live) == 3
    live.swap(tmp_path / "gone", 1, "1", remember=live.rollback)
    assert served_value(live) == 1
    for value in range(4, 9):
        with live.use() as pinned:
            live.swap(
                folder_of(tmp_path, value), value, str(value), remember=live.rollback if value % 2 else lambda: None
            )
            assert value_of(pinned.module) == pinned.version
        assert served_value(live) == value


class Stack(nn.Module):
    """A model of several layers, whose every weight is the version's number."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))


def test_under_load_no_answer_is_mixed_and_none_fails_through_50_swaps(tmp_path: Path) -> None:
    def stack_of(value: int) -> Path:
        folder = tmp_path / str(value)
        folder.mkdir()
        tensors = {name: torch.full_like(tensor, float(value)) for name, tensor in Stack().state_dict().items()}
        save_file(tensors, folder / "model.safetensors")
        return folder

    live = LiveModel(Modules(Stack), stack_of(0))
    stop, failures, answers = threading.Event(), [], []

    def request() -> None:
        try:
            while not stop.is_set():
                with live.use() as served:
                    seen = set()
                    for _ in range(4):  # the steps of a sampler, with room for a swap between any two
                        for layer in served.module.layers:
                            seen |= {float(layer.weight.min()), float(layer.weight.max()), float(layer.bias.mean())}
                        time.sleep(0.0005)
                    answers.append((served.version or 0, seen))
        except Exception as error:
            failures.append(error)

    clients = [threading.Thread(target=request) for _ in range(4)]
    for client in clients:
        client.start()
    refilled = 0
    for value in range(1, 51):
        refilled += live.swap(stack_of(value), value, str(value)).refilled
        answered = len(answers)
        deadline = time.monotonic() + 10
        while len(answers) < answered + 2 and time.monotonic() < deadline and not failures:
            time.sleep(0.001)
    stop.set()
    for client in clients:
        client.join(10)
    assert failures == []
    assert [(version, seen) for version, seen in answers if seen != {float(version)}] == []
    assert {version for version, _ in answers} >= set(range(1, 51))
    assert refilled > 25, "standing modules are refilled instead of built anew"
