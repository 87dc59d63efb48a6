"""A tiny app's annotator: the desktop replayed, and seen from afar as 12 x 16 pixels. Needs no torch, as none should.

The modules of this folder are copied beside the settings file of each trial, as a user's plug-ins stand beside theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from examples.desktop.inputs import Inputs
from examples.desktop.screen import HEIGHT, Frame
from examples.desktop.world import World
from ingest.annotator import Members
from ingest.types import Step

SCHEMA = {"properties": {"inputs": {"required": ["x", "y"], "properties": {"x": {"minimum": 0}}}}}
"""Some of the nonsense that visitors send is found at the door, the rest by the annotator."""
GRID = (12, 16)
SHRINK = HEIGHT // GRID[0]


class Thrifty:
    """Replays a visitor's steps, and leaves out those in which nothing can be seen to happen.

    A reset yields nothing, and inputs that break a rule raise: a dead letter.
    """

    def __init__(self) -> None:
        self._world = World()

    def on_step(self, step: Step) -> Iterable[Members]:
        if step.is_reset:
            return
        inputs = Inputs.parse(step.inputs)
        before = self._world.frame
        after = self._world.step(inputs)
        if not np.array_equal(before, after):
            yield transition(before, inputs, after)

    def on_end(self) -> Iterable[Members]:
        return ()


def transition(before: Frame, inputs: Inputs, after: Frame) -> Members:
    """A sample: both frames from afar, and the inputs."""
    text = json.dumps({"inputs": inputs.wire()}).encode()
    return {"prev.u8": _from_afar(before), "next.u8": _from_afar(after), "json": text}


def _from_afar(frame: Frame) -> bytes:
    blocks = frame.reshape(GRID[0], SHRINK, GRID[1], SHRINK, 3)
    return bytes(blocks.mean(axis=(1, 3)).astype(np.uint8).tobytes())
