"""Which versions have trained on given samples: what a deletion's certificate lists, and `stovetop audit SESSION` shows.

A version was trained on a sample if the positions that it, or a version before it along its chain, says were consumed
cover the sample's. History draws by numbers of its own from what live has passed; so where a version has drawn from
history, a sample that live had passed without consuming it may be among what was drawn, and is counted apart.
"""

from __future__ import annotations

import hashlib
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from publish.errors import Unreadable, Untrusted, VersionMissing
from publish.lineage import Point, read_manifest
from publish.manifest import Manifest
from publish.signing import TrustedKeys

Positions = Mapping[str, Sequence[Point]]
"""By partition (its number, as in `0`): offset and index of each sample in the log's topic of samples."""
Quad = tuple[int, int, int, int]
CONSUMED_FORMAT = 1
REMEMBERED = 256
"""Answers that are remembered; a certificate that is asked for again and again is one of the last."""
DOUBTED = 60.0
"""Seconds for which an answer is believed that some version kept from being whole."""


class Numbered(Protocol):
    """The part of a hub that is asked; every kind of hub has it."""

    def numbers(self) -> Sequence[int]:
        """Every number that was ever committed, ascending."""

    def manifest(self, version: int) -> bytes:
        """The stored manifest, also of a retired version. Raises VersionMissing."""


class Trained(msgspec.Struct, frozen=True):
    """A version and how many of the samples it was trained on: certainly, and perhaps besides, through history."""

    version: int
    run: str
    segment: str
    step: int
    certain: int
    possible: int = 0

    @property
    def label(self) -> str:
        """As versions are named everywhere."""
        return f"{self.version:06d}"


class Record(msgspec.Struct, frozen=True):
    """The answer. `unknown` are versions whose manifests cannot be believed or read: nothing can be said of them."""

    versions: tuple[Trained, ...]
    unknown: tuple[int, ...] = ()


def versions_trained_on(
    hub: Numbered,
    keys: TrustedKeys,
    positions: Positions,
    *,
    live: Sequence[str] = ("live",),
    history: Sequence[str] = ("history",),
) -> Record:
    """Every version that was ever committed and was, or may have been, trained on one of these samples, by number.

    `live` are the sources that read the topic in its order, `history` those that draw from what these have passed. Raises
    HubUnavailable where the hub cannot be asked now.
    """
    found: list[Trained] = []
    unknown: list[int] = []
    counts: dict[int, tuple[set[tuple[str, Point]], set[tuple[str, Point]]]] = {}
    wanted = {(partition, point) for partition, points in positions.items() for point in points}
    for number in hub.numbers():
        try:
            manifest, _ = read_manifest(hub, number, keys)
            certain, possible = _trained(manifest, wanted, live, history)
        except (Unreadable, Untrusted, VersionMissing):
            unknown.append(number)
            continue
        before = counts.get(manifest.parent or 0, (set(), set()))  # a parent has a lower number, so it was read
        certain, possible = certain | before[0], possible | before[1]
        counts[number] = certain, possible
        if certain or possible:
            more = len(possible - certain)
            found.append(Trained(number, manifest.run, manifest.segment, manifest.step, len(certain), more))
    return Record(tuple(found), tuple(unknown))


class Asked:
    """`versions_trained_on` of one hub, which looks again only where there are other versions than before.

    A manifest never changes, so neither does the answer until a version is added: that may descend from one that had
    trained on the samples, or have been trained on them before they were deleted. May be used from any thread.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, tuple[tuple[int, ...], float, Record]] = OrderedDict()
        self._lock = threading.Lock()

    def versions_trained_on(self, hub: Numbered, keys: TrustedKeys, positions: Positions) -> Record:
        """As the function of this name; the hub is asked for its numbers at least."""
        asked = msgspec.msgpack.encode((keys.texts, {name: list(points) for name, points in positions.items()}))
        question = hashlib.sha256(asked).digest()
        numbers, now = tuple(hub.numbers()), time.monotonic()
        with self._lock:
            known = self._answers.get(question)
            if known is not None and known[0] == numbers and (not known[2].unknown or now - known[1] < DOUBTED):
                self._answers.move_to_end(question)
                return known[2]
        record = versions_trained_on(hub, keys, positions)
        with self._lock:
            self._answers[question] = numbers, now, record
            self._answers.move_to_end(question)
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        return record


def _trained(
    manifest: Manifest, wanted: set[tuple[str, Point]], live: Sequence[str], history: Sequence[str]
) -> tuple[set[tuple[str, Point]], set[tuple[str, Point]]]:
    sources = _sources(manifest.consumed, manifest.label)
    drawn = any(quads for name in history for quads in sources.get(name, {}).values())
    certain: set[tuple[str, Point]] = set()
    possible: set[tuple[str, Point]] = set()
    for name in live:
        for partition, quads in sources.get(name, {}).items():
            ordered = sorted(quads)
            starts = [quad[:2] for quad in ordered]
            passed = max((quad[2:] for quad in ordered), default=(0, 0))
            for item in wanted:
                if item[0] != partition:
                    continue
                at = bisect_right(starts, item[1]) - 1
                if at >= 0 and item[1] < ordered[at][2:]:
                    certain.add(item)
                elif drawn and item[1] < passed:
                    possible.add(item)
    return certain, possible


def _sources(consumed: Mapping[str, Any], label: str) -> Mapping[str, Mapping[str, list[Quad]]]:
    if not consumed:
        return {}
    if consumed.get("format") != CONSUMED_FORMAT:
        raise Unreadable(f"version {label}: consumed positions of format {consumed.get('format')!r}")
    try:
        return msgspec.convert(consumed.get("sources"), dict[str, dict[str, list[Quad]]])
    except msgspec.ValidationError as error:
        raise Unreadable(f"version {label}: consumed positions of no known form ({error})") from error
