"""The paper's form: any dataset class, with parameters that can be changed while it is read."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from multiprocessing.context import get_spawning_popen
from typing import Any, ClassVar, Self

from torch.utils.data import Dataset, get_worker_info

from dataset.board import Board
from dataset.errors import ParameterError, SourceError

_made: dict[type[Dataset[Any]], type[Dataset[Any]]] = {}


def interactive_class(dataset_class: type[Dataset[Any]]) -> type[Dataset[Any]]:
    """A subclass whose parameters can be changed while it is read.

    Its constructor takes what the class takes, and `interactive_parameter_names`: names of attributes that the
    constructor sets (a class may also have them as a class attribute of that name). A change holds for the next
    sample that is read, in worker processes of a `DataLoader` too, persistent or not; at most num_workers *
    prefetch_factor batches, those that were begun before it, hold samples from before.
    """
    if not issubclass(dataset_class, Dataset):
        raise SourceError(
            f"{dataset_class.__name__} is no torch Dataset; give a subclass of Dataset or IterableDataset"
        )
    if dataset_class in _made:  # one for all, so that what is unpickled is of the same class
        return _made[dataset_class]
    members: dict[str, Any] = {"_made_of": dataset_class}
    for name in ("__getitem__", "__getitems__"):
        if hasattr(dataset_class, name):
            members[name] = _obeying(getattr(dataset_class, name))
    if hasattr(dataset_class, "__iter__"):
        members["__iter__"] = _obeying_on_the_way(dataset_class.__iter__)
    members["interactive_parameter_names"] = getattr(dataset_class, "interactive_parameter_names", ())
    made = type(f"Interactive{dataset_class.__name__}", (InteractiveParameters, dataset_class), members)
    _made[dataset_class] = made
    return made


class InteractiveParameters:
    """Parameters of a dataset that can be changed while it is read; mixed in before its class."""

    interactive_parameter_names: tuple[str, ...] = ()

    _made_of: ClassVar[Any]

    def __init__(self, *args: Any, interactive_parameter_names: Sequence[str] = (), **kwargs: Any) -> None:
        self._board = Board()
        super().__init__(*args, **kwargs)
        self._arguments = inspect.signature(super().__init__).bind(*args, **kwargs)
        self.interactive_parameter_names = tuple(interactive_parameter_names or self.interactive_parameter_names)
        for name in self.interactive_parameter_names:
            if not hasattr(self, name):
                raise ParameterError(
                    f'"{name}" is to be interactive, but {type(self).__name__} has no such attribute when its '
                    "constructor has run; set it there, or take the name out"
                )

    @property
    def construction(self) -> dict[str, Any]:
        """The constructor's arguments by name, those of JSON types: what `reconstructed` takes."""
        self._arguments.apply_defaults()
        given: dict[str, Any] = {}
        for name, value in self._arguments.arguments.items():
            kind = self._arguments.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                given.update(value)
            elif kind is not inspect.Parameter.VAR_POSITIONAL:
                given[name] = value
        return {name: value for name, value in given.items() if _is_json(value)}

    def reconstructed(self, **changes: Any) -> Self:
        """A new dataset, of the same constructor's arguments but for `changes`, read from its beginning.

        Interactive parameters that are not among the changes keep their values. Raises `ParameterError` for an
        argument that the constructor was not given, or one of another type; what it raises itself passes.
        """
        known = self.construction
        for name in changes:
            if name not in known:
                raise ParameterError(
                    f'"{name}" is no argument that {type(self).__name__} can be made anew with; '
                    f"these are: {', '.join(known) or 'none'}"
                )
        named = {name: _like(name, value, known[name]) for name, value in changes.items()}
        positional, keyword = list(self._arguments.args), dict(self._arguments.kwargs)
        for place, name in enumerate(list(self._arguments.signature.parameters)[: len(positional)]):
            if name in named:
                positional[place] = named.pop(name)
        names = self.interactive_parameter_names
        anew = type(self)(*positional, interactive_parameter_names=names, **{**keyword, **named})
        anew.set_interactive_parameters(
            {name: value for name, value in self.interactive_parameters().items() if name not in changes}
        )
        return anew

    def interactive_parameters(self) -> dict[str, Any]:
        """The current value of every interactive parameter."""
        return {name: getattr(self, name) for name in self.interactive_parameter_names}

    def set_interactive_parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change some of them, all or none; returns what they were.

        A new value is of the old one's type, and so are the elements of a list, tuple or dict; an int serves as a
        float. Anything else raises `ParameterError`.
        """
        unknown = [name for name in values if name not in self.interactive_parameter_names]
        if unknown:
            known = ", ".join(self.interactive_parameter_names) or "none"
            raise ParameterError(
                f'"{unknown[0]}" is no interactive parameter of {type(self).__name__}; these are: {known}'
            )
        before = {name: getattr(self, name) for name in values}
        changed = {name: _like(name, value, before[name]) for name, value in values.items()}
        for name, value in changed.items():
            setattr(self, name, value)
        self._board.write(_sendable(self.interactive_parameters()))
        return before

    def obey(self) -> None:
        """In a worker process: take up what was changed since it was started."""
        news = self._board.news() if get_worker_info() is not None else None
        if news is None:
            return
        if not news:
            raise ParameterError(
                f"a parameter of {type(self).__name__} was set to a value that cannot be sent to worker processes; "
                "read it with num_workers=0"
            )
        for name, value in pickle.loads(news).items():
            setattr(self, name, value)

    def __reduce__(self) -> Any:
        """The class was made here, so it is made again where it is unpickled."""
        state = dict(self.__dict__)
        if get_spawning_popen() is None:  # a copy, which nobody tells anything
            state["_board"] = None
        return _unpickled, (self._made_of, state)


def _unpickled(made_of: type[Dataset[Any]], state: dict[str, Any]) -> Any:
    anew: Any = object.__new__(interactive_class(made_of))
    anew.__dict__.update(state)
    anew._board = anew._board or Board()
    return anew


def _sendable(values: Mapping[str, Any]) -> bytes:
    try:
        return pickle.dumps(dict(values))
    except Exception:  # whoever has no workers may set what he likes; those who have are told by `obey`
        return b""


def _like(name: str, value: Any, old: Any) -> Any:
    """`value` in the type of `old`, which a parameter keeps; raises `ParameterError` where it does not fit."""
    if old is None:
        return value
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, tuple) and isinstance(value, list):  # JSON has no tuples
        value = tuple(value)
    if type(value) is not type(old):
        raise ParameterError(
            f'"{name}" is {value!r}, a {type(value).__name__}, but it is a {type(old).__name__} (now {old!r}); give one'
        )
    if isinstance(old, (list, tuple)) and old and len({type(element) for element in old}) == 1:
        return type(old)(_like(f"{name}[{place}]", element, old[0]) for place, element in enumerate(value))
    if isinstance(old, dict):
        return {
            key: _like(f"{name}[{key!r}]", element, old[key]) if key in old else element
            for key, element in value.items()
        }
    return value


def _is_json(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(element) for key, element in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def _obeying(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def obeying(self: Any, *args: Any) -> Any:
        self.obey()
        return method(self, *args)

    return obeying


def _obeying_on_the_way(method: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @wraps(method)
    def obeying(self: Any) -> Iterator[Any]:
        samples = method(self)
        return samples if get_worker_info() is None else _each(self, samples)

    return obeying


def _each(dataset: InteractiveParameters, samples: Iterator[Any]) -> Iterator[Any]:
    samples = iter(samples)
    while True:
        dataset.obey()
        try:
            sample = next(samples)
        except StopIteration:
            return
        yield sample
