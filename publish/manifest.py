"""A version's manifest: what it holds, what it was trained on, and the signature over all of it.

The signature is Ed25519 over the canonical JSON of the manifest without its `signature`. A reader verifies it with
a key of its own configuration before it opens any file that the manifest names, and every file against its digest
before any tensor is parsed. There is no unsigned path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from publish.errors import FileNotAllowed, Unreadable

FORMAT = 1
MANIFEST = "manifest.json"


class FileDigest(msgspec.Struct, frozen=True):
    """SHA-256 (hexadecimal) and size in bytes of one file."""

    sha256: str
    size: int


class Base(msgspec.Struct, frozen=True):
    """What the delta beside a version turns into it: the version that was committed right before, by the number and the
    SHA-256 of its manifest. `file` is the delta itself."""

    version: int
    manifest_sha256: str
    file: FileDigest


class Tensor(msgspec.Struct, frozen=True, array_like=True):
    """One tensor: its dtype as safetensors writes it, its shape, the SHA-256 of its bytes, and in which ways the delta
    beside the version tells its blocks (`same`, `ulp`, `gaps+ulp`, …; `full` where there is none)."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str
    encoding: str = "full"


class Manifest(msgspec.Struct, frozen=True, omit_defaults=False):
    """One immutable version. `files` are paths relative to the version's folder; `watermark` is per source and
    partition the point (offset, index) below which everything was trained on; times are Unix seconds.

    `parent` is the version before it along its chain of segments; `rewinds` the run's version before it by number,
    where that one was trained on samples that this one was not, because training was taken back to a checkpoint.
    `command` is the uuid of the command that asked for this version. `tensors` are by file and name; `configuration` is
    the hash of the model's configuration, the same for all versions of one architecture.

    A field that came later is left out where it is not set, so that what was signed before it came still verifies."""

    format: int
    version: int
    created_at: float
    run: str
    branch: str
    segment: str
    step: int
    ema: bool
    parent: int | None
    files: Mapping[str, FileDigest]
    watermark: Mapping[str, Mapping[str, tuple[int, int]]] = {}
    consumed: Mapping[str, Any] = {}
    weights: Mapping[str, float] = {}
    newest_sample_time: float | None = None
    evaluation: Mapping[str, Any] = {}
    rewinds: int | None = None
    command: str = ""
    base: Base | msgspec.UnsetType = msgspec.UNSET
    tensors: Mapping[str, Mapping[str, Tensor]] | msgspec.UnsetType = msgspec.UNSET
    configuration: str | msgspec.UnsetType = msgspec.UNSET
    key_id: str = ""
    signature: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(digest.size for digest in self.files.values())

    @property
    def label(self) -> str:
        """The version's number as six digits or more, which orders like the number."""
        return f"{self.version:06d}"

    def canonical(self) -> bytes:
        """The bytes that are signed: sorted JSON without the signature."""
        stored = msgspec.to_builtins(self)
        del stored["signature"]
        return msgspec.json.encode(stored, order="sorted")

    def encode(self) -> bytes:
        """The stored form."""
        return msgspec.json.encode(self, order="sorted")


_decode_manifest = msgspec.json.Decoder(Manifest).decode


_NAMES = re.compile(
    r"""(?:[\w-]+/){0,2}                     # a pipeline keeps its parts in folders
    (?: (?!optimizer)[\w.-]+\.safetensors | [\w.-]+\.safetensors\.index\.json
      | (?: config | generation_config | model_index | scheduler_config | preprocessor_config | processor_config
          | tokenizer | tokenizer_config | special_tokens_map | added_tokens | vocab )\.json
      | merges\.txt | vocab\.txt )""",
    re.VERBOSE | re.ASCII,
)


def check_names(names: Iterable[str]) -> None:
    """Raise FileNotAllowed unless every path is one that a version may hold: weights as safetensors and the JSON that
    `from_pretrained` reads beside them. No pickle, no program, no optimizer state, no way out of the folder."""
    for name in names:
        if not _NAMES.fullmatch(name) or any(part.startswith(".") for part in name.split("/")):
            raise FileNotAllowed(
                f"{name!r}: a version holds *.safetensors, config.json and its kin; leave this file out"
            )


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Read the stored form, not yet verified. Raises Unreadable where it is none, or of a format not known here."""
    try:
        manifest = _decode_manifest(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"{where}: not a manifest ({error})") from error
    if manifest.format != FORMAT:
        raise Unreadable(f"{where}: a manifest of format {manifest.format}; only {FORMAT} is known here")
    return manifest
