"""Sources that are added to a mixture or taken out of it while training runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dataset.errors import ParameterError, SourceError
from dataset.kinds import made_of, source_of
from dataset.remote import is_remote
from dataset.source import Source

Decoding = Callable[[Any], Mapping[str, Any]]


class Newcomer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A source that is added, with the weight that it begins with (0: paused until it is given one).

    It is shards at a `path`, or whatever the factory of a registered `kind` makes of `arguments` (see `register_source`).
    """

    path: str | None = None
    kind: str | None = None
    arguments: Mapping[str, Any] = {}
    weight: float = 0.0

    @property
    def what(self) -> str:
        """What it is, in messages; the weight does not matter."""
        if self.path is not None:
            return self.path
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


Known = Mapping[str, tuple[Source, Newcomer | None]]
"""Sources by name, those that were added with what they were added by."""


def described(source: Source, newcomer: Newcomer | None) -> dict[str, Any]:
    """How a source is told to people and kept in checkpoints: what it was added by, or else what it is."""
    built: dict[str, Any] = msgspec.to_builtins(newcomer) if newcomer is not None else {"is": source.fingerprint}
    return built


def chosen(
    given: Any, present: Collection[str], known: Known, decode: Decoding | None
) -> dict[str, tuple[Source, Newcomer | None]]:
    """The sources that are `present`, changed by what is `given`: None takes one out, a path or a newcomer adds one.

    A name that is known and not present comes back. One that is only said to be something (`{"is": …}`), and is not
    known, is left out: a state that needs it is refused where it is loaded. Raises `ParameterError`.
    """
    if not isinstance(given, Mapping) or not given:
        raise ParameterError(f'sources: {given!r} changes none; give it as {{"more": "data/shards", "old": null}}')
    sources = {name: known[name] for name in present}
    for name, value in given.items():
        if value is None:
            sources.pop(name, None)
        elif isinstance(value, Mapping) and set(value) == {"is"}:
            if name in known:
                sources[name] = known[name]
        else:
            sources[name] = _added(name, _newcomer(name, value), known, decode)
    if not sources:
        raise ParameterError("sources: none is left; leave one, or stop training instead")
    refuse_unfollowed({name: source for name, (source, _) in sources.items()})
    return sources


def _added(name: str, newcomer: Newcomer, known: Known, decode: Decoding | None) -> tuple[Source, Newcomer]:
    if name in known:
        source, before = known[name]
        if before is None or before.what != newcomer.what:
            was = source.fingerprint if before is None else before.what
            raise ParameterError(f'source "{name}" is {was} and cannot become {newcomer.what}; give it another name')
        return source, newcomer
    if newcomer.kind is not None:
        return made_of(name, newcomer.kind, newcomer.arguments, decode), newcomer
    path = newcomer.path or ""
    if not is_remote(path) and not Path(path).exists():
        raise ParameterError(f'source "{name}": there is nothing at {newcomer.path}; give a path to shards')
    return source_of(name, path, decode), newcomer


def _newcomer(name: str, value: Any) -> Newcomer:
    if isinstance(value, str):
        return Newcomer(value)
    try:
        newcomer = msgspec.convert(value, Newcomer)
        msgspec.json.encode(newcomer)  # as a checkpoint holds it
    except (msgspec.ValidationError, TypeError) as error:
        raise ParameterError(f'source "{name}": {value!r} is no description of one ({error}); {_FORMS}') from None
    if (newcomer.path is None) == (newcomer.kind is None) or (newcomer.arguments and newcomer.kind is None):
        raise ParameterError(f'source "{name}": {value!r} names not one of a path and a kind; {_FORMS}')
    if not 0 <= newcomer.weight < float("inf"):
        raise ParameterError(f'source "{name}": its weight is {newcomer.weight}, but a weight is at least 0 and finite')
    return newcomer


_FORMS = (
    'give it as a path to shards, as {"path": "data/more", "weight": 0.1}, or as '
    '{"kind": "…", "arguments": {…}, "weight": 0.1}'
)


def refuse_unfollowed(sources: Mapping[str, Source]) -> None:
    """Refuse a history that follows nothing that is there."""
    for name, source in sources.items():
        followed = getattr(source, "follows", None)
        if followed is not None and followed not in sources:
            raise SourceError(
                f'source "{name}" follows "{followed}", which is not among the sources ({", ".join(sources)}); '
                "name the live source in `follows`, or set it to None to draw from everything archived"
            )
