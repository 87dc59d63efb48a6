"""The files of the version that was committed last, which the next one's delta is told against.

Kept only once the hub has committed it: a delta against what was merely about to be published would be lost with the
first failed upload, and every later one with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from publish import durable
from publish.catalogue import Known


class LastCommitted:
    """A folder in `root` with the files of one version, named by the SHA-256 of its manifest. `scratch` is on the same
    file system.

    Losing it costs one delta: the next version is then told in full. So it is not synced, and its bytes are not checked
    again: a delta against rotten ones leads to digests that are not the signed ones, and followers then fetch the full
    version.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        durable.make_folder(root)
        self._root = root
        self._scratch = scratch

    def files(self, known: Known) -> Mapping[str, Path] | None:
        """Its files by name; None where another version is kept, or none, or not all of it."""
        folder = self._root / known.digest
        files = {name: folder / name for name in known.manifest.files}
        return files if all(path.is_file() for path in files.values()) else None

    def keep(self, known: Known, files: Mapping[str, Path]) -> None:
        """Keep this version in place of the one before, by a second name for each file where that can be."""
        with self.scratch() as scratch:
            for name, path in files.items():
                target = scratch / "version" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                durable.link_or_copy(path, target)
            for older in self._root.iterdir():
                durable.remove_tree(older)
            os.rename(scratch / "version", self._root / known.digest)

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder to prepare something in, which is gone afterwards."""
        return durable.staging(self._scratch)
