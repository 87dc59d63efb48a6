"""What things are read by: those that people hand over, and those that are only described, by a kind and arguments.

A description is of JSON types, so that an operator can send it and a checkpoint can hold it. What it means is registered
by the app, under the name of a kind.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from torch.utils.data import IterableDataset

from dataset.decoding import Decode, as_members
from dataset.errors import ParameterError, SourceError
from dataset.history import HistorySource
from dataset.iterable import IterableSource
from dataset.live import LiveSource
from dataset.mapped import MapSource, as_sample
from dataset.remote import is_remote
from dataset.shards import ShardSource
from dataset.source import Source

Factory = Callable[..., Any]
"""Makes a `Source`, or anything that `make_interactive_dataset` takes as one, of keyword arguments of JSON types."""

_factories: dict[str, Factory] = {}


def register_source(kind: str, factory: Factory) -> None:
    """Let sources of a kind be added while training runs: `{"kind": …, "arguments": {…}, "weight": …}`.

    `factory` is called with the arguments; those whose parameters have annotations are checked against them. It is
    registered before a trainer is made, also in the process that resumes: a checkpoint holds the description only.
    Raises ValueError where another factory has the name.
    """
    if _factories.setdefault(kind, factory) is not factory:
        other = _factories[kind]
        raise ValueError(
            f"the kind {kind!r} is taken by {other.__module__}.{other.__qualname__}; give yours another name"
        )


def made_of(
    name: str, kind: str, arguments: Mapping[str, Any], decode: Callable[[Any], Mapping[str, Any]] | None
) -> Source:
    """The source of that description. Raises `ParameterError`, also for whatever the factory raises."""
    factory = _factories.get(kind)
    if factory is None:
        near = get_close_matches(kind, _factories, n=1)
        hint = f"did you mean {near[0]!r}" if near else f"these are: {', '.join(sorted(_factories)) or 'none'}"
        raise ParameterError(
            f'source "{name}": the kind {kind!r} is not registered ({hint}); call register_source first'
        )
    given = _checked(f'source "{name}": the kind {kind!r}', factory, arguments)
    try:
        return source_of(name, factory(**given), decode)
    except Exception as error:  # whatever an app's factory raises must not end training
        raise ParameterError(
            f'source "{name}" cannot be made of {kind!r} with {dict(arguments)} ({type(error).__name__}: {error})'
        ) from error


def _checked(what: str, factory: Factory, arguments: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise ParameterError(f"{what}: {error}; its arguments are {', '.join(parameters) or 'none'}") from None
    hints = _hints(factory)
    checked = dict(arguments)
    for name, value in arguments.items():
        with contextlib.suppress(TypeError):  # a type that JSON knows nothing of: the factory's own business
            try:
                checked[name] = msgspec.convert(value, hints.get(name, Any))
            except msgspec.ValidationError as error:
                raise ParameterError(f'{what}: "{name}" is {value!r} ({error})') from None
    return checked


def _hints(factory: Factory) -> Mapping[str, Any]:
    try:
        return get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except Exception:  # annotations that cannot be looked up check nothing
        return {}


def source_of(name: str, thing: Any, decode: Callable[[Any], Mapping[str, Any]] | None = None) -> Source:
    """The source that `thing` is, or is read by."""
    if isinstance(thing, Source):
        return thing
    members: Decode = decode or as_members
    if isinstance(thing, (str, os.PathLike)):
        return ShardSource(thing if isinstance(thing, str) and is_remote(thing) else Path(thing), decode=members)
    if hasattr(thing, "writer_state") and hasattr(thing, "reader"):
        return LiveSource(thing, decode=members)
    if hasattr(thing, "create_if_absent") and hasattr(thing, "names"):
        return HistorySource(thing, decode=members)
    element = decode or as_sample
    stateful = hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")
    if isinstance(thing, Iterator) and not stateful:
        raise SourceError(
            f'source "{name}" is a {type(thing).__name__}, which can be gone through only once, so no resume could '
            "go on with it; give an iterable whose every iteration begins anew, or one with state_dict and load_state_dict"
        )
    if isinstance(thing, (Mapping, bytes)):
        raise SourceError(
            f'source "{name}" is a {type(thing).__name__}, which cannot be read; of a dataset in splits give one split'
        )
    # torch gives every dataset a `__getitem__`, and some that are iterated have a length
    if hasattr(thing, "__getitem__") and hasattr(thing, "__len__") and not isinstance(thing, IterableDataset):
        return MapSource(thing, decode=element)
    if isinstance(thing, Iterable):
        return IterableSource(thing, decode=element)
    raise SourceError(
        f'source "{name}" is a {type(thing).__name__}, which cannot be read; give a path to shards, a log, an archive, '
        "a dataset, or a Source of your own"
    )
