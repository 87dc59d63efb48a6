"""The lines of a commit, read with as little memory as a line without its content takes.

A client sends a file as one line of JSON with all of it in base64, so a line may be larger than memory. What is long is
decoded straight to disk; the rest of the line is then read as any other.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from publish.manifest import FileDigest

SHORT = 1 << 16
"""Bytes of a line that are looked at as they are; a longer one is a file whose content goes to disk."""
LONGEST = 16 << 20
"""Bytes of a line without its content."""
PIECE = 1 << 20
_CONTENT = re.compile(rb'"content"\s*:\s*"')


@dataclass(frozen=True)
class Line:
    """One line. `content` is where the file's decoded content lies, where it was too long to stay in `text`, which then
    holds an empty string in its place."""

    text: bytes
    content: Path | None = None
    digest: FileDigest = field(default_factory=lambda: FileDigest("", 0))


def read_lines(body: BinaryIO, scratch: Path) -> Iterator[Line]:
    """Every line that is not empty. Raises ValueError for base64 that is none, and for a line that is too long."""
    number = 0
    while head := body.readline(SHORT):
        if head.endswith(b"\n") or len(head) < SHORT:
            if head.strip():
                yield Line(head)
            continue
        number += 1
        found = _CONTENT.search(head)
        if found is None:
            yield Line(_whole(head, body))
            continue
        target = scratch / f"content-{number}"
        digest = _decode(head[found.end() :], body, target)
        yield Line(_whole(head[: found.end()] + b'"', body), target, digest)


def _decode(begun: bytes, body: BinaryIO, target: Path) -> FileDigest:
    """Decode to `target` up to the quote that ends the string, and leave `body` right behind it."""
    seen, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        while True:
            text, quote, rest = begun.partition(b'"')
            more = b"" if quote else body.read(PIECE)
            if not quote and not more:
                raise ValueError("a line of the commit ends within its content")
            whole = len(text) if quote else len(text) - len(text) % 4
            try:
                data = binascii.a2b_base64(text[:whole], strict_mode=True) if whole else b""
            except binascii.Error as error:
                raise ValueError(f"a content of the commit is not base64 ({error})") from error
            seen.update(data)
            size += len(data)
            file.write(data)
            if quote:
                body.seek(-len(rest), os.SEEK_CUR)
                return FileDigest(seen.hexdigest(), size)
            begun = text[whole:] + more


def _whole(begun: bytes, body: BinaryIO) -> bytes:
    """The rest of a line that must fit into memory."""
    line = begun + body.readline(LONGEST)
    if len(line) > LONGEST:
        raise ValueError(f"a line of the commit is longer than {LONGEST} bytes without a content")
    return line
