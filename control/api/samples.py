"""Sample pictures of a version: what its weights paint, to be seen beside the version before."""

from __future__ import annotations

from pydantic import Base64Bytes, Field

from control.protocol import Frozen

MOST_SAMPLES = 8
MOST_SAMPLE_BYTES = 256 << 10
MOST_SAMPLES_BYTES = 512 << 10
"""Bytes of one PNG file, and of all of a version: in base64 they fit into the request that is allowed unless told
otherwise."""


class NewSample(Frozen):
    """One picture, a PNG file. `label` says what it shows, and pairs it with that of the version before."""

    label: str = Field(min_length=1, max_length=120)
    png: Base64Bytes


class NewSamples(Frozen):
    """`PUT /api/v1/runs/{run}/versions/{version}/samples`: all pictures of the version, in place of those it had."""

    samples: tuple[NewSample, ...] = Field(min_length=1, max_length=MOST_SAMPLES)


class SampleInfo(Frozen):
    """A picture that is kept, to be had under `/api/v1/samples/{sha256}`. Width and height are in pixels."""

    label: str
    width: int
    height: int
    bytes: int
    sha256: str


class SampleList(Frozen):
    """The pictures of a version, in the order in which they came."""

    run: str
    version: int
    samples: tuple[SampleInfo, ...]
