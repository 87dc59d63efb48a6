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

    A reset yields nothing (there is no frame before it), nor does the second and every further step of a stretch in
    which nothing changes: there is nothing to learn from it. Inputs that break a rule raise: a dead letter.
    """

    def __init__(self) -> None:
        self._world = World()
        self._still = False

    def on_step(self, step: Step) -> Iterable[Members]:
        """One transition a step: the true frame before, the inputs, the true frame after."""
        if step.is_reset:
            return
        inputs = Inputs.parse(step.inputs)
        before = self._world.frame
        after = self._world.step(inputs)
        was_still, self._still = self._still, bool((before == after).all())
        if not (was_still and self._still):
            yield encode(before, inputs, after)

    def on_end(self) -> Iterable[Members]:
        """Nothing is left over."""
        return ()
