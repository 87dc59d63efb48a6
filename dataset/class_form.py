"""The paper's form: any dataset class, with parameters that can be changed while it is read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Self

from torch.utils.data import Dataset, get_worker_info

from dataset.errors import LayoutError, ParameterError, SourceError

_READING = ("__getitem__", "__getitems__", "__iter__")


def interactive_class(dataset_class: type[Dataset[Any]]) -> type[Dataset[Any]]:
    """A subclass whose parameters can be changed while it is read.

    Its constructor takes what the class takes, and `interactive_parameter_names`: names of attributes that the
    constructor sets (a class may also have them as a class attribute of that name). A change holds for the next
    sample. It is read in the process that changes it: a worker process would have a copy, which no change reaches,
    and is refused.
    """
    if not issubclass(dataset_class, Dataset):
        raise SourceError(
            f"{dataset_class.__name__} is no torch Dataset; give a subclass of Dataset or IterableDataset"
        )
    members = {name: _in_one_process(getattr(dataset_class, name)) for name in _READING if hasattr(dataset_class, name)}
    names = getattr(dataset_class, "interactive_parameter_names", ())
    bases = (InteractiveParameters, dataset_class)
    return type(f"Interactive{dataset_class.__name__}", bases, {**members, "interactive_parameter_names": names})


class InteractiveParameters:
    """Parameters of a dataset that can be changed while it is read; mixed in before its class."""

    interactive_parameter_names: tuple[str, ...] = ()

    def __init__(self, *args: Any, interactive_parameter_names: Sequence[str] = (), **kwargs: Any) -> None:
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
        return before


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


def _in_one_process(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def checked(self: Any, *args: Any) -> Any:
        worker = get_worker_info()
        if worker is not None:
            raise LayoutError(
                f"num_workers is {worker.num_workers}: a changed parameter could not reach worker processes; "
                f"read {type(self).__name__} with num_workers=0"
            )
        return method(self, *args)

    return checked
