"""What libraries keep to themselves and an iterable dataset cannot be read without; a test fails where it moves.

A pass over an iterable has to be a function of its number, else no resume can go on in the middle of it. Most are; a
webdataset pipeline shuffles by the clock and the process, splits its shards by rank and worker as it finds them in the
process, and refuses several ranks unless told how. A pass over it is therefore made here: a copy whose shuffles are
seeded, which leaves ranks to the mixture.
"""

from __future__ import annotations

import copy
import logging
import random
import sys
from collections.abc import Iterable
from typing import Any

import torch.utils.data._utils.worker as torch_worker

logger = logging.getLogger(__name__)

_BUFFERED = "BufferShuffledExamplesIterable"
_STARTING = "_starting_state_dict"


class AsPart:
    """Lets `torch.utils.data.get_worker_info` say that this is worker `part` of `parts`; that there is none, for one.

    Datasets split themselves by it, and those that are read in one part must not, wherever they are read. It may be
    entered while it is.
    """

    def __init__(self, dataset: Any, part: int, parts: int) -> None:
        told = torch_worker.WorkerInfo(id=part, num_workers=parts, seed=part, dataset=dataset)
        self._info = told if parts > 1 else None
        self._before: list[Any] = []

    def __enter__(self) -> None:
        self._before.append(torch_worker._worker_info)
        torch_worker._worker_info = self._info

    def __exit__(self, *_: object) -> None:
        torch_worker._worker_info = self._before.pop()


def one_pass(dataset: Any, seed: int, number: int, part: int) -> Iterable[Any]:
    """What is iterated in a pass of that number."""
    set_epoch = getattr(dataset, "set_epoch", None)
    if set_epoch is not None:
        set_epoch(number)
    if "webdataset" not in sys.modules:
        return dataset  # type: ignore[no-any-return]
    return _seeded(dataset, f"{seed} {number} {part}", number)  # type: ignore[no-any-return]


def _seeded(stage: Any, name: str, number: int) -> Any:
    """A stage of a webdataset pipeline, or a whole one, whose randomness is a function of `name`."""
    from webdataset import DataPipeline, filters, shardlists

    if isinstance(stage, DataPipeline):
        whole = copy.copy(stage)
        left_out = (shardlists.split_by_node, shardlists.single_node_only)
        whole.pipeline = [
            _seeded(inner, f"{name} {place}", number)
            for place, inner in enumerate(stage.pipeline)
            if inner not in left_out
        ]
        return whole
    if isinstance(stage, filters.FilterFunction) and stage.f is filters._shuffle:
        options = {key: value for key, value in stage.kw.items() if key not in ("rng", "seed")}
        return filters.FilterFunction(stage.f, *stage.args[:2], **options, rng=random.Random(name))
    if isinstance(stage, filters.detshuffle | shardlists.ResampledShards):
        again = copy.copy(stage)
        again.epoch = number - 1  # it counts its passes, wherever they begin
        if isinstance(again, shardlists.ResampledShards):
            again.deterministic, again.worker_seed = True, lambda: random.Random(name).getrandbits(31)
        return again
    return stage


def tells_its_state(dataset: Any) -> bool:
    """Whether `state_dict` and `load_state_dict` are there, and say all.

    Hugging Face datasets with a shuffle buffer fill it anew when they go on, so what was in it would be lost.
    """
    if not (hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict")):
        return False
    stages = [getattr(dataset, "_ex_iterable", None)]
    while stages:
        stage = stages.pop()
        if any(each.__name__ == _BUFFERED for each in type(stage).__mro__):
            return False
        stages += [each for name in ("ex_iterable", "_interleaved") if (each := getattr(stage, name, None)) is not None]
        stages += getattr(stage, "ex_iterables", None) or []
    return True


def state_at_beginning(dataset: Any) -> Any:
    """What `load_state_dict` takes to begin anew; None where a new iteration does, as with Hugging Face datasets."""
    if not tells_its_state(dataset) or hasattr(dataset, _STARTING):
        return None
    try:
        return copy.deepcopy(dataset.state_dict())
    except Exception as error:  # some have none before they are iterated
        logger.debug("%s has no state yet: %s", type(dataset).__name__, error)
        return None


def forget_state(dataset: Any) -> None:
    """A state that was loaded into a Hugging Face dataset holds for every iteration after it, so it is taken out."""
    if hasattr(dataset, _STARTING):
        setattr(dataset, _STARTING, None)
