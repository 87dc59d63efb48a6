"""Sample pictures of versions: taken in from whoever published them, and shown to whoever may read."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import Response

from auth.problems import Problem, ProblemType
from control.api import NewSamples, SampleList, VersionInfo
from control.api.samples import MOST_SAMPLE_BYTES, MOST_SAMPLES_BYTES
from control.bodies import VersionBody, body
from control.png import png_size
from control.protocol import EventType
from control.server.access import Doors
from control.server.desk import Desk
from control.server.journal import Journal
from control.server.runs import RunName
from control.settings import ControlSettings
from control.store import runs as stored
from control.store import samples as kept
from control.store.readers import Readers

UNKNOWN_VERSION = ProblemType("unknown-version", 404, "There is no such version", retryable=True)
UNKNOWN_SAMPLE = ProblemType("unknown-sample", 404, "There is no such sample")
BAD_SAMPLE = ProblemType("bad-sample", 422, "A sample is refused")

AS_A_PICTURE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": 'inline; filename="sample.png"',
    "Cache-Control": "private, max-age=31536000, immutable",
}
"""A browser takes it for a picture and for nothing else; its address names its content."""


def sample_routes(journal: Journal, desk: Desk, readers: Readers, doors: Doors, settings: ControlSettings) -> APIRouter:
    """The doors for pictures."""
    router = APIRouter(prefix="/api/v1", tags=["versions"])

    @router.put("/runs/{run}/versions/{version}/samples", dependencies=[Depends(doors.operate)])
    async def show(run: RunName, version: Annotated[int, Path(ge=1)], new: NewSamples) -> SampleList:
        """Show what a version paints: PNG files, in place of those it had. The version has to be known: told of before."""
        pictures = _checked(new)
        return await desk.do(keep, run, version, pictures)

    def keep(run: str, version: int, pictures: tuple[kept.Sample, ...]) -> SampleList:
        known = stored.version(journal.store.connection, run, version)
        if known is None:
            raise Problem(UNKNOWN_VERSION, f"run {run!r} has not told of a version {version}; do that first")
        _tell(journal, known, kept.Samples(run, version, pictures, settings.keep_samples))
        return SampleList(run=run, version=version, samples=tuple(picture.info for picture in pictures))

    @router.get(
        "/samples/{sha256}",
        dependencies=[Depends(doors.read)],
        response_class=Response,
        responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    def sample(sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
        """One picture."""
        found = kept.picture(readers.connection(), sha256)
        if found is None:
            raise Problem(UNKNOWN_SAMPLE, f"no sample {sha256} is kept; those of old versions are not")
        return Response(found, media_type="image/png", headers=AS_A_PICTURE)

    return router


def _checked(new: NewSamples) -> tuple[kept.Sample, ...]:
    labels = [sample.label for sample in new.samples]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise Problem(BAD_SAMPLE, f"samples: {twice!r} is there twice; each has a label of its own")
    total = sum(len(sample.png) for sample in new.samples)
    if total > MOST_SAMPLES_BYTES:
        raise Problem(BAD_SAMPLE, f"samples: {total} bytes together, and {MOST_SAMPLES_BYTES} are allowed; send fewer")
    return tuple(_picture(sample.label, sample.png) for sample in new.samples)


def _picture(label: str, png: bytes) -> kept.Sample:
    if len(png) > MOST_SAMPLE_BYTES:
        raise Problem(BAD_SAMPLE, f"{label!r}: {len(png)} bytes, and {MOST_SAMPLE_BYTES} are allowed; make it smaller")
    try:
        width, height = png_size(png)
    except ValueError as error:
        raise Problem(BAD_SAMPLE, f"{label!r}: {error}") from error
    return kept.Sample(label, width, height, png)


def _tell(journal: Journal, known: VersionInfo, samples: kept.Samples) -> None:
    """Store them, with the event that says so."""
    told = VersionBody(version=known.version, action="sampled", segment=known.segment, samples=len(samples.pictures))
    event = journal.event(known.run, EventType.VERSION, body(told), branch=known.branch, step=known.step)
    journal.write([event], samples=samples)
