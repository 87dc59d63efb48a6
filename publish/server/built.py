"""Large files that are built from a delta and what the repository has, in place of coming in full.

One is built at a time for the whole hub, behind whoever reads from it, on disk and in some blocks of memory; what is not
the announced content, to the bit, is gone before anybody could see it.
"""

from __future__ import annotations

import logging

from anyio import CapacityLimiter, to_thread

from publish.delta import apply_to_file
from publish.errors import PublishError
from publish.manifest import FileDigest
from publish.server.refusals import not_built
from publish.server.stored import StoredRepository
from publish.transfer import Object, Told

logger = logging.getLogger(__name__)


class Builder:
    """One for all repositories of a hub."""

    def __init__(self) -> None:
        self._turns = CapacityLimiter(1)

    async def build(self, repository: StoredRepository, wanted: Object, told: Told) -> None:
        """Keep the wanted object, durably. Raises a 422 where what is told does not lead to it."""
        await to_thread.run_sync(build_object, repository, wanted, told, limiter=self._turns)


def build_object(repository: StoredRepository, wanted: Object, told: Told) -> None:
    """Keep the wanted object, durably, or raise the 422; at once where it is there already."""
    if repository.large(wanted.oid) is not None:  # another upload was first, or the answer to this one was lost
        return
    commit, delta = repository.resolve(told.base), repository.content(told.delta)
    if commit is None:
        raise not_built(f"{told.name!r}: there is no commit {told.base!r} to tell it against; send it in full")
    if delta is None:
        raise not_built(f"{told.name!r}: its delta {told.delta!r} was not uploaded; upload it first")
    base = repository.path(commit, told.name) if told.name in commit.files else None
    with repository.scratch() as scratch:
        staged = scratch / "content"
        try:
            found = apply_to_file(delta, told.name, base, staged, wanted.size)
        except (PublishError, FileNotFoundError, ValueError) as error:
            logger.warning("%s is not built from a delta: %s", wanted.oid, error)
            raise not_built(f"{told.name!r}: the delta does not fit commit {told.base} ({error})") from error
        if found != FileDigest(wanted.oid, wanted.size):
            raise not_built(
                f"{told.name!r}: the delta makes {found.size} bytes with SHA-256 {found.sha256} of commit {told.base}; "
                f"{wanted.size} bytes with {wanted.oid} were announced"
            )
        repository.adopt(staged, found, large=True)
