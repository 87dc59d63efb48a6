"""What every route shares: the repositories, who may do what, and how a path's words become a repository and a commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from auth.http import RequireScope
from publish.directory import DirectoryHub
from publish.server.refusals import no_repository, no_revision, read_only
from publish.server.repository import Commit, Repository
from publish.server.stored import Repositories, StoredRepository
from publish.server.versions import VersionsRepository


@dataclass(frozen=True)
class Doors:
    """`own` is the name of the service's repository, as `namespace/name`; `read` and `write` let requests in."""

    hub: DirectoryHub
    own: str
    versions: VersionsRepository
    stored: Repositories
    read: RequireScope
    write: RequireScope
    largest_commit: int

    def repository(self, namespace: str, name: str) -> Repository:
        """Raises a 404 where there is none."""
        if f"{namespace}/{name}" == self.own:
            return self.versions
        found = self.stored.find(namespace, name)
        if found is None:
            raise no_repository(f"{namespace}/{name}")
        return found

    def writable(self, namespace: str, name: str) -> StoredRepository:
        """Raises a 404 where there is none, a 403 for the service's own."""
        found = self.repository(namespace, name)
        if not isinstance(found, StoredRepository):
            raise read_only(f"{namespace}/{name}")
        return found

    def commit(self, namespace: str, name: str, revision: str) -> tuple[Repository, Commit]:
        """Raises a 404 where there is no such repository or revision."""
        repository = self.repository(namespace, name)
        commit = repository.resolve(revision)
        if commit is None:
            raise no_revision(f"{namespace}/{name}", revision)
        return repository, commit


def described(name: str, commit: Commit) -> Mapping[str, object]:
    """A repository at a commit, in the API's form."""
    return {
        "_id": name,
        "id": name,
        "modelId": name,
        "author": name.partition("/")[0],
        "sha": commit.sha,
        "lastModified": moment(commit.date),
        "private": True,
        "gated": False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": path} for path in sorted(commit.files)],
    }


def moment(date: float) -> str:
    """Unix seconds in the form of the API."""
    return datetime.fromtimestamp(date, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
