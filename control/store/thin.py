"""Keeps the store bounded over weeks: old metrics are put together, old figures are dropped, interventions stay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import apsw
import msgspec

from control.protocol import EventType
from control.store.rows import fetch
from control.store.series import Span, decode_span

FACTOR = 32
"""How many rows of metrics become one. A row that was put together may be put together again, 32 times as coarse."""

PASSING = (
    EventType.PIPELINE,
    EventType.FOLLOWER,
    EventType.HEALTH,
    EventType.MIXTURE,
    EventType.LOG,
    EventType.ACTOR,
    EventType.AGENT,
)
"""Types of which only the newest are kept. Commands, runs, branches, checkpoints, versions and evaluations stay."""

BATCH = 320
"""Rows put together in one transaction: a few milliseconds, so that the server goes on answering."""


def thin(connection: apsw.Connection, keep: int, keep_passing: int) -> bool:
    """One small piece of work; True while there is more. `keep`: rows of metrics of a run kept at each coarseness."""
    for (run,) in fetch(connection, "SELECT run FROM runs"):
        if _drop(connection, run, keep_passing):
            return True
        level = 0
        while (boundary := _boundary(connection, run, level, keep)) is not None:
            if _merge(connection, run, level, boundary):
                return True
            level += 1
    return False


def _drop(connection: apsw.Connection, run: str, keep: int) -> bool:
    for kind in PASSING:
        newest = "SELECT seq FROM events WHERE run = ? AND type = ? ORDER BY seq DESC LIMIT 1 OFFSET ?"
        if not fetch(connection, newest, (run, kind.value, keep + BATCH)):
            continue  # not yet worth a transaction
        boundary = fetch(connection, newest, (run, kind.value, keep))[0][0]
        with connection:
            connection.execute(
                "DELETE FROM events WHERE seq IN "
                "(SELECT seq FROM events WHERE run = ? AND type = ? AND seq <= ? ORDER BY seq LIMIT ?)",
                (run, kind.value, boundary, BATCH * 4),
            )
        return True
    return False


def _boundary(connection: apsw.Connection, run: str, level: int, keep: int) -> int | None:
    row = connection.execute(
        "SELECT seq FROM events WHERE run = ? AND thinned = ? AND type = 'metrics' ORDER BY seq DESC LIMIT 1 OFFSET ?",
        (run, level, keep),
    ).fetchone()
    return None if row is None else int(row[0])


def _merge(connection: apsw.Connection, run: str, level: int, boundary: int) -> bool:
    rows = connection.execute(
        "SELECT seq, time, branch, step, body, span FROM events "
        "WHERE run = ? AND thinned = ? AND type = 'metrics' AND seq <= ? ORDER BY seq LIMIT ?",
        (run, level, boundary, BATCH),
    ).fetchall()
    if len(rows) < BATCH:
        return False  # wait until a whole batch is old enough
    with connection:
        for chunk in _chunks(rows):
            body, span = _together(chunk)
            last = chunk[-1]
            connection.execute(
                "UPDATE events SET body = ?, span = ?, thinned = ? WHERE seq = ?",
                (msgspec.json.encode(body).decode(), msgspec.json.encode(span).decode(), level + 1, last[0]),
            )
            connection.executemany("DELETE FROM events WHERE seq = ?", [(row[0],) for row in chunk[:-1]])
    return True


def _chunks(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Neighbours of one branch whose steps grow, at most FACTOR at a time: a chunk never spans a fork."""
    turn = 0
    marked = []
    for index, row in enumerate(rows):
        before = rows[index - 1] if index else row
        if row[2] != before[2] or (row[3] or 0) < (before[3] or 0):
            turn += 1
        marked.append((turn, row))
    for _, group in groupby(marked, key=lambda item: item[0]):
        chunk = [row for _, row in group]
        for start in range(0, len(chunk), FACTOR):
            yield chunk[start : start + FACTOR]


def _together(chunk: list[tuple[Any, ...]]) -> tuple[dict[str, float | None], Span]:
    means: dict[str, list[tuple[float, int]]] = {}
    low: dict[str, float | None] = {}
    high: dict[str, float | None] = {}
    total, first_step = 0, None
    for _, _, _, step, text, span_text in chunk:
        body = msgspec.json.decode(text)
        span = decode_span(span_text) if span_text else None
        count = span.count if span else 1
        total += count
        first_step = first_step if first_step is not None else (span.first_step if span else step)
        for name, value in body.items():
            if not isinstance(value, (int, float, type(None))):
                continue
            means.setdefault(name, [])
            _extend(low, name, span.low.get(name) if span else value, min)
            _extend(high, name, span.high.get(name) if span else value, max)
            if value is not None:
                means[name].append((float(value), count))
    body = {
        name: math.fsum(v * n for v, n in found) / sum(n for _, n in found) if found else None
        for name, found in means.items()
    }
    return body, Span(count=total, first_step=first_step, low=low, high=high)


def _extend(extremes: dict[str, float | None], name: str, value: float | None, choose: Any) -> None:
    known = extremes.get(name)
    extremes[name] = value if known is None else known if value is None else choose(known, value)
