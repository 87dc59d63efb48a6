"""The annotator: replays visitors' steps in the true system; `stovetop.toml` names its class `Replay`."""

from __future__ import annotations

from collections.abc import Iterable

from examples.desktop.codec import encode
from examples.desktop.inputs import Inputs
from examples.desktop.world import World
from ingest.annotator import Members
from ingest.types import Step

__all__ = ["Replay"]


class Replay:
    """The annotator: replays a visitor's steps in the true world, and so yields the frames that should have been shown.

    A reset yields nothing (there is no frame before it), and inputs that break a rule raise: a dead letter.
    """

    def __init__(self) -> None:
        self._world = World()

    def on_step(self, step: Step) -> Iterable[Members]:
        """One transition a step: the true frame before, the inputs, the true frame after."""
        if step.is_reset:
            return
        inputs = Inputs.parse(step.inputs)
        before = self._world.frame
        yield encode(before, inputs, self._world.step(inputs))

    def on_end(self) -> Iterable[Members]:
        """Nothing is left over."""
        return ()
