"""What becomes of a source when sessions are deleted: their samples are given out no more, wherever they lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from dataset.history import HistorySource
from dataset.live import LiveSource
from dataset.shards import ShardSource
from dataset.source import Source


def knowing_deletions(sources: Mapping[str, Source]) -> dict[str, Source]:
    """The same sources, told of deletions by the log of the one live source, where they were not told otherwise.

    Base shards are too: they may hold samples that once were archived here.
    """
    logs = [source.deletions for source in sources.values() if isinstance(source, LiveSource)]
    if len(logs) != 1:
        return dict(sources)
    return {
        name: dataclasses.replace(source, deletions=logs[0])
        if isinstance(source, (HistorySource, ShardSource)) and source.deletions is None
        else source
        for name, source in sources.items()
    }
