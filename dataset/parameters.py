"""The parameters of a mixture that an operator changes by name while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataset.errors import ParameterError
from dataset.mixture import Weights
from dataset.source import Source

NAMES = ("weights", "temperature", "epochs", "half_life", "half_life_seconds")
_OF_SOME = {"epochs": "has_epochs", "half_life": "has_half_life", "half_life_seconds": "has_half_life"}
"""Limits that not every source can have, and the attribute of those that can."""


def changed_weights(
    sources: Mapping[str, Source], weights: Weights, values: Mapping[str, Any], at_version: int | None
) -> Weights:
    """What holds when `values` do, by name. Raises `ParameterError`, `WeightsError`."""
    unknown = [name for name in values if name not in NAMES]
    if unknown:
        raise ParameterError(f'"{unknown[0]}" is no parameter of the mixture; these are: {", ".join(NAMES)}')
    for name, fits in _OF_SOME.items():
        limits = values.get(name)
        for source in limits if isinstance(limits, Mapping) else ():
            if source in sources and not getattr(sources[source], fits, False):
                able = [each for each, held in sources.items() if getattr(held, fits, False)]
                raise ParameterError(
                    f'{name}: "{source}" has none, it is {sources[source].fingerprint}; '
                    f"these have: {', '.join(able) or 'none'}"
                )
    others = {name: value for name, value in values.items() if name != "weights"}
    return weights.changed(values.get("weights"), at_version, **others)
