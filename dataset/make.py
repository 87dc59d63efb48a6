"""`make_interactive_dataset`: names and things that samples come from, made into one stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, overload

from torch.utils.data import Dataset

from dataset.class_form import interactive_class
from dataset.errors import SourceError
from dataset.interactive import InteractiveMixture
from dataset.kinds import source_of
from dataset.loading import AHEAD_BYTES, WORKER_PATIENCE, WORKER_TIMEOUT
from dataset.mixture import Weights
from dataset.remake import refuse_unfollowed


@overload
def make_interactive_dataset(sources: type[Dataset[Any]]) -> type[Dataset[Any]]: ...


@overload
def make_interactive_dataset(
    sources: Mapping[str, Any],
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    decode: Callable[[Any], Mapping[str, Any]] | None = None,
    workers: int = 0,
    ahead_bytes: int = AHEAD_BYTES,
    worker_timeout: float | None = WORKER_TIMEOUT,
    worker_patience: float = WORKER_PATIENCE,
) -> InteractiveMixture: ...


def make_interactive_dataset(
    sources: Mapping[str, Any] | type[Dataset[Any]],
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    decode: Callable[[Any], Mapping[str, Any]] | None = None,
    workers: int = 0,
    ahead_bytes: int = AHEAD_BYTES,
    worker_timeout: float | None = WORKER_TIMEOUT,
    worker_patience: float = WORKER_PATIENCE,
) -> Any:
    """Mix named sources by weights that can be changed while training runs; or make a dataset class interactive.

    A source is a `Source`; or a path to shards (`ShardSource`), a log (`LiveSource`), an archive of samples
    (`HistorySource`, behind the one live source), or any map-style or iterable dataset. `decode` serves those that
    are not a `Source` yet: it makes a mapping of tensors out of a sample's members (of an element, for datasets).
    Weights are relative; a source that they do not name is paused, and without any all have the same.
    `workers` processes load samples ahead, up to about `ahead_bytes` of them, decoded; the order of the stream does not
    depend on how many there are. A worker that has said nothing for `worker_timeout` seconds while it was waited for is
    replaced (None: never); commands are served meanwhile, and after `worker_patience` seconds other workers load what
    waits behind.

    Given a Dataset or IterableDataset class (the paper's form), returns a subclass that takes
    `interactive_parameter_names` beside the constructor's own keyword arguments.
    """
    if isinstance(sources, type):
        if weights is not None or decode is not None or workers:
            raise SourceError(
                f"weights, decode and workers go with named sources, not with the class {sources.__name__}"
            )
        return interactive_class(sources)
    if not isinstance(sources, Mapping) or not sources:
        raise SourceError(f"{sources!r} names no sources; give a mapping, as {{'base': 'data/shards', 'live': log}}")
    read = {str(name): source_of(name, thing, decode) for name, thing in sources.items()}
    refuse_unfollowed(read)
    first = Weights.first(read, weights)
    return InteractiveMixture(read, first, seed, workers, ahead_bytes, decode, worker_timeout, worker_patience)
