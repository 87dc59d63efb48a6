"""The contract of an annotator: an app's plug-in that turns steps into training samples.

An app names a factory as `module:name` in its settings; a class with no arguments will do. One annotator is made for
each episode: the first step of a session, and every step that is a reset, get a fresh one, after `on_end` of the one
before. It is fed step by step, in order, and may put out samples at any of them.

    class Replay:
        def __init__(self) -> None:
            self.world = World()

        def on_step(self, step: Step) -> Iterable[Members]:
            before, after = self.world.frame(), self.world.act(step.inputs)
            yield {"before.npy": npy(before), "after.npy": npy(after), "json": json(step.inputs)}

        def on_end(self) -> Iterable[Members]:
            return ()

What to know of it:

- An exception in `on_step` makes a dead letter of that step, and drops what it had yielded for it; the same annotator
  is then fed the next step. One in `on_end` makes a dead letter that names no step (its `seq` is one past the last).
- After a crash an annotator is made again and fed its episode from the first step; what it puts out for steps that
  had their outcome is dropped. So it may keep any state in memory, and need not be deterministic, but it should have
  no effects outside.
- A step that takes the whole process down is passed over after a few deaths, as a dead letter.
- With a method `on_open` it is told, before its first step, what the app said when it opened the session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from ingest.errors import AnnotatorError
from ingest.plugins import load_plugin
from ingest.shard_format import EXTENSION
from ingest.types import SessionOpened, Step

Members: TypeAlias = Mapping[str, bytes]
"""One sample as an annotator puts it out: its binary members by extension (`json`, `png`, `before.npy`, …)."""


class Annotator(Protocol):
    """Turns the steps of one episode into samples."""

    def on_step(self, step: Step) -> Iterable[Members]:
        """The samples that this step completes: none, one or several."""
        ...

    def on_end(self) -> Iterable[Members]:
        """The samples that only the end of the episode completes."""
        ...


@runtime_checkable
class SessionAware(Protocol):
    """An annotator that wants to know what the app said of the session."""

    def on_open(self, session: SessionOpened) -> None:
        """Called once, before the first step. Not called where the opening is no longer known."""
        ...


AnnotatorFactory: TypeAlias = Callable[[], Annotator]


class PassThrough:
    """The default: a step with members is one sample, its members and its inputs as `json`; one without gives none."""

    def on_step(self, step: Step) -> Iterable[Members]:
        if step.members:
            yield {"json": msgspec.json.encode(step.inputs), **step.members}

    def on_end(self) -> Iterable[Members]:
        return ()


def load_annotator(reference: str) -> AnnotatorFactory:
    """The factory called `module:name`, tried once so that a mistake shows before any step does.

    Raises `PluginError` where it cannot be loaded and `AnnotatorError` where it makes something else.
    """
    factory: AnnotatorFactory = load_plugin(reference)
    try:
        made = factory()
    except Exception as error:
        raise AnnotatorError(f"{reference}: making an annotator failed ({type(error).__name__}: {error})") from error
    for name in ("on_step", "on_end"):
        if not callable(getattr(made, name, None)):
            raise AnnotatorError(f"{reference}: it made a {type(made).__name__}, which has no method {name}(…)")
    return factory


def checked(outputs: Iterable[Members]) -> list[Members]:
    """All that an annotator put out, as bytes; raises `AnnotatorError` for what no shard could hold."""
    return [_checked_sample(members) for members in outputs]


def _checked_sample(members: Members) -> Members:
    if not isinstance(members, Mapping) or not members:
        raise AnnotatorError(f"a sample is a mapping of extensions to bytes with at least one, got {members!r:.200}")
    for extension, value in members.items():
        if not isinstance(extension, str) or not EXTENSION.fullmatch(extension):
            raise AnnotatorError(
                f"extension {extension!r}: expected lower case letters, digits, . - _ (for instance png)"
            )
        if not isinstance(value, bytes):
            raise AnnotatorError(f"member {extension!r} is {type(value).__name__}; encode it to bytes")
    return members
