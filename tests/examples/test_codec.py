from __future__ import annotations

import io
import json
import random
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from examples.desktop import codec, screen
from examples.desktop.errors import InvalidFrame, InvalidSample
from examples.desktop.inputs import Inputs
from examples.desktop.scripted import Transition, transitions, visitor_session
from examples.desktop.world import World


@pytest.fixture(scope="module")
def session() -> list[Transition]:
    return list(islice(transitions(visitor_session, random.Random(3)), 120))


def test_members_hold_both_frames_and_the_inputs(session: list[Transition]) -> None:
    for step in session:
        members = codec.encode(step.prev, step.inputs, step.next)
        assert set(members) == {"prev.png", "next.png", "json"}
        assert (codec.decode_frame(members["prev.png"]) == step.prev).all()
        assert (codec.decode_frame(members["next.png"]) == step.next).all()
        assert Inputs.parse(json.loads(members["json"])["inputs"]) == step.inputs
        assert sum(map(len, members.values())) < 2000


def test_the_sample_put_on_the_frame_before_gives_the_frame_after_to_the_pixel(session: list[Transition]) -> None:
    for step in session:
        tensors = codec.to_tensors(codec.encode(step.prev, step.inputs, step.next))
        assert tensors["sample"].shape == tensors["weight"].shape == (codec.SAMPLE_CHANNELS, *codec.GRID)
        assert tensors["sample"].abs().max() <= 1.0
        assert (codec.to_frames(step.prev[None], tensors["sample"][None])[0] == step.next).all()


def test_what_is_trained_on_is_what_is_sampled_with(session: list[Transition]) -> None:
    batch = codec.condition(np.stack([s.prev for s in session]), [s.inputs for s in session])
    for step, condition in zip(session, batch, strict=True):
        tensors = codec.to_tensors(codec.encode(step.prev, step.inputs, step.next))
        assert condition.shape == (codec.CONDITION_CHANNELS, *codec.GRID)
        assert torch.equal(tensors["condition"], condition)


def test_changed_pixels_weigh_more(session: list[Transition]) -> None:
    for step in session:
        weight = codec.tensors(step.prev, step.inputs, step.next)["weight"]
        changed = int((step.prev != step.next).any(axis=-1).sum())
        assert int((weight == codec.CHANGED_WEIGHT).sum()) == len(screen.PALETTE) * changed
        assert int((weight == 1).sum()) == weight.numel() - len(screen.PALETTE) * changed


def test_a_sample_in_which_something_was_pressed_counts_more() -> None:
    frame = World().frame
    told = [Inputs(1, 1), Inputs(1, 1, left=True), Inputs(1, 1, right=True), Inputs(1, 1, keys_down=("Escape",))]
    weights = [float(codec.tensors(frame, inputs, frame)["loss_weight"]) for inputs in told]
    assert weights == [1.0] + [codec.PRESSED_WEIGHT] * 3


def test_different_inputs_give_different_conditions() -> None:
    frame = World().frame
    every = [
        Inputs(10, 10),
        Inputs(11, 10),
        Inputs(10, 11),
        Inputs(10, 10, left=True),
        Inputs(10, 10, right=True),
        Inputs(10, 10, keys_down=("Escape",)),
    ]
    batch = codec.condition(np.stack([frame] * len(every)), every)
    assert len({row.numpy().tobytes() for row in batch}) == len(every)


def test_small_errors_of_a_painted_change_leave_no_trace(session: list[Transition]) -> None:
    noise = torch.Generator().manual_seed(0)
    for step in session:
        change = codec.tensors(step.prev, step.inputs, step.next)["sample"]
        change += 0.9 * torch.rand(change.shape, generator=noise) - 0.45
        assert (codec.to_frames(step.prev[None], change[None])[0] == step.next).all()


def test_a_frame_in_colours_off_the_palette_is_still_encoded_exactly_and_read_as_the_nearest() -> None:
    frame = World().frame
    odd = frame.copy()
    odd[20, 20] = (1, 126, 127)
    assert (codec.decode_frame(codec.encode_frame(odd)) == odd).all()
    seen = codec.condition(np.stack([frame, odd]), [Inputs(1, 1)] * 2)
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize(
    ("png", "told"),
    [(b"GIF89a", "is not a PNG file"), (b"", "is not a PNG file"), (b"\x89PNG\r\n\x1a\n\x00", "is not a PNG file")],
)
def test_what_is_no_png_is_refused(png: bytes, told: str) -> None:
    with pytest.raises(InvalidFrame, match=told):
        codec.decode_frame(png)


def test_a_png_of_another_size_is_refused_with_both_sizes() -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 12)).save(file, "PNG")
    with pytest.raises(InvalidFrame, match="16 x 12 pixels, but it is 32 x 24"):
        codec.decode_frame(file.getvalue())


def test_a_cut_png_is_refused() -> None:
    with pytest.raises(InvalidFrame):
        codec.decode_frame(codec.encode_frame(World().frame)[:-60])


@pytest.mark.parametrize(
    ("member", "value", "told"),
    [
        ("next.png", None, "no 'next.png'"),
        ("json", b"{}", "no 'inputs'"),
        ("json", b"{", "sample: "),
        ("json", b"[]", "sample: "),
        ("json", b'{"inputs": {"x": 32, "y": 0}}', "inputs.x: 32"),
        ("prev.png", b"", "is not a PNG"),
    ],
)
def test_a_broken_sample_is_refused_with_its_reason(member: str, value: bytes | None, told: str) -> None:
    world = World()
    members = codec.encode(world.frame, Inputs(1, 1), world.step(Inputs(1, 1)))
    if value is None:
        del members[member]
    else:
        members[member] = value
    with pytest.raises(InvalidSample, match=told):
        codec.to_tensors(members)
