"""Where samples lie that a newer annotator made of archived steps: one archive a name, beside the archive itself.

    {archive}/reannotated/{name}/samples/{partition}/{first offset}.tar

Offsets are those of the steps, so what was made of a step is found where the step is.
"""

from __future__ import annotations

import re

from ingest.errors import ShardError
from ingest.shards import ShardStore

FOLDER = "reannotated"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def generation(store: ShardStore, name: str) -> ShardStore:
    """The archive of what was reannotated under a name; nothing is made yet."""
    if not NAME.fullmatch(name):
        raise ShardError(f"{name!r}: a name of 1 to 64 small letters, digits and - is wanted, as in v2")
    return store.beside(f"{FOLDER}/{name}")


def generations(store: ShardStore) -> dict[str, ShardStore]:
    """All that was reannotated beside an archive, by name."""
    return {name: generation(store, name) for name in store.folders(FOLDER) if NAME.fullmatch(name)}
