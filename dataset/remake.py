"""Sources that are added to a mixture or taken out of it while training runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dataset.errors import ParameterError, SourceError
from dataset.remote import is_remote
from dataset.shards import ShardSource
from dataset.source import Source


class Newcomer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source that is added: shards at a path, with the weight that it begins with (0: paused until it is given one)."""

    path: str
    weight: float = 0.0


Known = Mapping[str, tuple[Source, Newcomer | None]]
"""Sources by name, those that were added with what they were added by."""


def described(source: Source, newcomer: Newcomer | None) -> dict[str, Any]:
    """How a source is told to people and kept in checkpoints: what it was added by, or else what it is."""
    built: dict[str, Any] = msgspec.to_builtins(newcomer) if newcomer is not None else {"is": source.fingerprint}
    return built


def chosen(
    given: Any, present: Collection[str], known: Known, decode: Callable[[Any], Mapping[str, Any]] | None
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


def _added(
    name: str, newcomer: Newcomer, known: Known, decode: Callable[[Any], Mapping[str, Any]] | None
) -> tuple[Source, Newcomer]:
    if name in known:
        source, before = known[name]
        if before is None or before.path != newcomer.path:
            was = source.fingerprint if before is None else before.path
            raise ParameterError(f'source "{name}" is {was} and cannot become {newcomer.path}; give it another name')
        return source, newcomer
    remote = is_remote(newcomer.path)
    if not remote and not Path(newcomer.path).exists():
        raise ParameterError(f'source "{name}": there is nothing at {newcomer.path}; give a path to shards')
    decoding: dict[str, Any] = {} if decode is None else {"decode": decode}
    return ShardSource(newcomer.path if remote else Path(newcomer.path), **decoding), newcomer


def _newcomer(name: str, value: Any) -> Newcomer:
    if isinstance(value, str):
        return Newcomer(value)
    try:
        return msgspec.convert(value, Newcomer)
    except msgspec.ValidationError as error:
        raise ParameterError(
            f'source "{name}": {value!r} is neither a path to shards nor a path with a weight ({error}); give it as '
            '{"path": "data/more", "weight": 0.1}'
        ) from None


def refuse_unfollowed(sources: Mapping[str, Source]) -> None:
    """Refuse a history that follows nothing that is there."""
    for name, source in sources.items():
        followed = getattr(source, "follows", None)
        if followed is not None and followed not in sources:
            raise SourceError(
                f'source "{name}" follows "{followed}", which is not among the sources ({", ".join(sources)}); '
                "name the live source in `follows`, or set it to None to draw from everything archived"
            )
