"""Keeping sample pictures of versions: those of the newest ones, beside the events and not among them."""

from __future__ import annotations

import hashlib

import apsw
import msgspec

from control.api import SampleInfo
from control.store.rows import fetch


class Sample(msgspec.Struct, frozen=True):
    """A PNG file that was checked, and what it shows."""

    label: str
    width: int
    height: int
    png: bytes

    @property
    def info(self) -> SampleInfo:
        """What is told of it."""
        digest = hashlib.sha256(self.png).hexdigest()
        return SampleInfo(label=self.label, width=self.width, height=self.height, bytes=len(self.png), sha256=digest)


class Samples(msgspec.Struct, frozen=True):
    """All pictures of a version; `keep` is how many versions of the run keep theirs."""

    run: str
    version: int
    pictures: tuple[Sample, ...]
    keep: int


def put(connection: apsw.Connection, samples: Samples) -> None:
    """Store them in place of those that the version had; older versions beyond `keep` lose theirs."""
    connection.execute("DELETE FROM samples WHERE run = ? AND version = ?", (samples.run, samples.version))
    for place, picture in enumerate(samples.pictures):
        info = picture.info
        connection.execute(
            "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                samples.run,
                samples.version,
                place,
                info.label,
                info.width,
                info.height,
                info.sha256,
                picture.png,
            ),
        )
    connection.execute(
        "DELETE FROM samples WHERE run = ?1 AND version NOT IN "
        "(SELECT DISTINCT version FROM samples WHERE run = ?1 ORDER BY version DESC LIMIT ?2)",
        (samples.run, samples.keep),
    )


def by_version(connection: apsw.Connection, run: str | None) -> dict[tuple[str, int], tuple[SampleInfo, ...]]:
    """What is kept, by run and version; of one run, if it is named."""
    where, values = ("WHERE run = ?", (run,)) if run is not None else ("", ())
    rows = fetch(
        connection,
        f"SELECT run, version, label, width, height, length(png), sha256 FROM samples {where} ORDER BY place",
        values,
    )
    found: dict[tuple[str, int], list[SampleInfo]] = {}
    for name, version, label, width, height, size, digest in rows:
        info = SampleInfo(label=label, width=width, height=height, bytes=size, sha256=digest)
        found.setdefault((name, version), []).append(info)
    return {key: tuple(infos) for key, infos in found.items()}


def picture(connection: apsw.Connection, sha256: str) -> bytes | None:
    """The PNG file of that digest, if it is kept."""
    found = connection.execute("SELECT png FROM samples WHERE sha256 = ? LIMIT 1", (sha256,)).get
    return None if found is None else bytes(found)
