"""Puts one shard in the place of others: to leave out what was deleted, or to make one of many small ones.

What replaces is created under the first one's name of the next generation, whole, and covers the records of all that
it replaces. At that moment it is the chain; before it, the old ones are. They stay, so that readers who stand in them
go on, and are removed by `retire` once they have been off the chain for longer than any reader pauses. Killed at any
point, either chain is whole and what is left over is off it. Two that replace the same shard want the same name, so
one of them is told and starts over. Rows are never dropped: a deleted entry keeps its number, without its bytes.

The last shard of a chain may be rewritten, but is not put together with others: so the name with the highest offset
is always on the chain, and tells how far the log is archived (`archived_before`) without opening any other. An archiver
that slept until its name was removed may create it again; it then sees names beyond it, and goes on at the end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from ingest.entries import Entry
from ingest.errors import ShardClaimed, ShardError, ShardGone
from ingest.shard_reader import Shard, ShardChain
from ingest.shard_writer import ShardWriter
from ingest.shards import ShardStore, chain_folder, first_offset_of, generation_of, latest, next_generation
from ingest.types import Point

logger = logging.getLogger(__name__)


def replace(
    store: ShardStore, shards: Sequence[Shard], keep: Callable[[Entry], bool] = lambda entry: True
) -> Shard | None:
    """One shard in the place of neighbours on the chain, with the entries that `keep` accepts.

    None where one of them was itself replaced meanwhile: look up the chain and start over. Raises `ShardError` for a
    shard that is damaged, which is not replaced, and for shards that are no neighbours.
    """
    _check_neighbours(store, shards)
    first = shards[0].summary
    name = next_generation(shards[0].name)
    while True:
        writer = ShardWriter(store, first.topic, first.partition, first.first_offset, generation=generation_of(name))
        try:
            for shard in shards:
                _copy(shard, writer, keep)
            if not _current(store, shards) or not writer.publish():
                return None
            break
        except ShardGone:
            return None
        except ShardClaimed:  # by one who died before it was there, or will be late: then a later generation counts
            name = next_generation(name)
        finally:
            writer.discard()
    made = Shard(store, name)
    logger.info("%s took the place of %d shards, %s to %s", name, len(shards), shards[0].name, shards[-1].name)
    if not _current(store, shards[1:]):
        logger.warning("%s holds what was rewritten in that moment: making it anew", name)
        removed = _removed(store, shards[1:])
        return replace(store, [made], lambda entry: (entry.offset, entry.index) not in removed)
    return made


def _check_neighbours(store: ShardStore, shards: Sequence[Shard]) -> None:
    for shard, following in pairwise(shards):
        if shard.summary.next_offset != following.summary.first_offset:
            raise ShardError(f"{following.name} does not follow {shard.name}, so they cannot become one shard")
    if len(shards) > 1 and _latest(store, shards[0])[-1] == shards[-1].name:
        raise ShardError(f"{shards[-1].name} is the last of its chain, which stays a shard of its own")


def _copy(shard: Shard, writer: ShardWriter, keep: Callable[[Entry], bool]) -> None:
    shard.verify()
    for entry in shard.entries():
        if entry.removed or not keep(entry):
            writer.add_removed(entry.offset, entry.index, entry.time)
        else:
            writer.add(entry)
    writer.cover(shard.summary.next_offset, shard.summary.oldest_time, shard.summary.newest_time)


def retire(store: ShardStore, topic: str, partition: int, pause: float) -> list[str]:
    """Remove shards that have been off the chain for more than `pause` seconds; gives their names.

    `pause` is longer than any reader or writer of this archive may be stopped or suspended (0 where none is there).
    """
    folder = chain_folder(topic, partition)
    removed = []
    chain = ShardChain(store, topic, partition)
    on_chain = {first_offset_of(name): name for name in chain.names}
    for name in store.names(folder):
        if on_chain.get(first_offset_of(name)) == name:
            continue
        covering = chain.covering(first_offset_of(name))
        if covering is not None and time.time() - covering.published > pause:
            store.remove(name)
            removed.append(name)
            logger.info("removed %s, which %s has replaced", name, covering.name)
    return removed


def _current(store: ShardStore, shards: Sequence[Shard]) -> bool:
    """Whether none of these was replaced."""
    return not shards or {shard.name for shard in shards} <= set(_latest(store, shards[0]))


def _removed(store: ShardStore, shards: Sequence[Shard]) -> set[Point]:
    """What was deleted, by now, from the records of these."""
    end = shards[-1].summary.next_offset
    names = [name for name in _latest(store, shards[0]) if first_offset_of(name) < end]
    return {(entry.offset, entry.index) for name in names for entry in Shard(store, name).entries() if entry.removed}


def _latest(store: ShardStore, shard: Shard) -> list[str]:
    """The names from this shard on, of the latest generations."""
    summary = shard.summary
    return latest(store.names(chain_folder(summary.topic, summary.partition), summary.first_offset - 1))
