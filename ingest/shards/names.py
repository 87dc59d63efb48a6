"""The names of shards, which are the index of an archive.

    {steps|samples}/{partition}/{first offset, 20 digits}.tar                           as the archiver published it
    {steps|samples}/{partition}/{first offset, 20 digits}.{generation, 6 digits}.tar    what was put in its place

A name is given once and never to other bytes. At each first offset the highest generation counts. The chain begins at
the lowest first offset and goes on at the name of its end; what lies between is covered, and nobody's any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ingest.errors import ShardError

_NAME = re.compile(r"(?P<folder>[a-z]+/\d+)/(?P<offset>\d{20})(?:\.(?P<generation>\d{6}))?\.tar")
_LAST_GENERATION = 999_999


def chain_folder(topic: str, partition: int) -> str:
    """The folder of one chain of shards."""
    return f"{topic}/{partition}"


def shard_name(topic: str, partition: int, first_offset: int, generation: int = 0) -> str:
    """The name of the shard that begins at an offset; generation 0 is the archiver's own."""
    suffix = f".{generation:06d}" if generation else ""
    return f"{topic}/{partition}/{first_offset:020d}{suffix}.tar"


def is_shard_name(name: str) -> bool:
    """Whether a name is one that a shard can have."""
    return _NAME.fullmatch(name) is not None


def first_offset_of(name: str) -> int:
    """The offset at which a shard of this name begins."""
    return int(_parsed(name)["offset"])


def generation_of(name: str) -> int:
    """0 as published by the archiver, else the how-many-th that was put in its place."""
    return int(_parsed(name)["generation"] or 0)


def next_generation(name: str) -> str:
    """The name of what is put in the place of the shard `name`."""
    match = _parsed(name)
    generation = int(match["generation"] or 0) + 1
    if generation > _LAST_GENERATION:
        raise ShardError(f"{name}: it was replaced {_LAST_GENERATION} times, more often than a name can tell")
    return f"{match['folder']}/{match['offset']}.{generation:06d}.tar"


def in_order(names: Iterable[str]) -> list[str]:
    """Names by first offset and generation."""
    return sorted(names, key=lambda name: (first_offset_of(name), generation_of(name)))


def latest(names: Iterable[str]) -> list[str]:
    """Of each first offset the highest generation, in order."""
    return list({first_offset_of(name): name for name in in_order(names)}.values())


def _parsed(name: str) -> re.Match[str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ShardError(f"{name!r} is no name of a shard; expected topic/partition/first offset in 20 digits.tar")
    return match
