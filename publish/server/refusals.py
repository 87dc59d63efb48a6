"""How the hub says no: problems that also carry the headers by which a `huggingface_hub` client tells them apart."""

from __future__ import annotations

from collections.abc import Mapping

from auth.problems import Problem, ProblemType

NOT_FOUND = ProblemType("hub-not-found", 404, "The hub has no such thing")
CONFLICT = ProblemType("hub-conflict", 409, "The hub stands otherwise by now")
READ_ONLY = ProblemType("hub-read-only", 403, "Nobody commits here but the publisher")
NO_UPLOAD = ProblemType("hub-no-upload", 403, "Nothing may be uploaded to this address")
TOO_LARGE = ProblemType("hub-too-large", 413, "The commit is too large")
BAD_COMMIT = ProblemType("hub-bad-commit", 400, "The commit is not well-formed")
NOT_BUILT = ProblemType("hub-not-built", 422, "The delta does not make what was announced")
AWAY = ProblemType("hub-away", 503, "The hub's directory cannot be read", retryable=True)


def _said(kind: ProblemType, detail: str, code: str = "") -> Problem:
    plain = detail.encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ")
    headers: Mapping[str, str] = {"X-Error-Message": plain} | ({"X-Error-Code": code} if code else {})
    return Problem(kind, detail, headers=headers)


def no_repository(name: str) -> Problem:
    """404 for a repository."""
    return _said(NOT_FOUND, f"{name}: there is no such repository", "RepoNotFound")


def no_revision(name: str, revision: str) -> Problem:
    """404 for a branch, tag or commit."""
    return _said(NOT_FOUND, f"{name}: there is no revision {revision!r}", "RevisionNotFound")


def no_entry(name: str, path: str) -> Problem:
    """404 for a file."""
    return _said(NOT_FOUND, f"{name}: there is no file {path!r} at this revision", "EntryNotFound")


def conflict(detail: str) -> Problem:
    """409."""
    return _said(CONFLICT, detail)


def exists(name: str, url: str) -> Problem:
    """409 for a repository that is there already; a client that does not mind reads its address."""
    refusal = conflict(f"{name}: there is a repository of that name already")
    refusal.members["url"] = url
    return refusal


def read_only(name: str) -> Problem:
    """403: signed versions are made by the publisher alone."""
    return _said(READ_ONLY, f"{name}: its commits are signed versions; hand weights to the publisher instead")


def too_large(detail: str) -> Problem:
    """413."""
    return _said(TOO_LARGE, detail)


def bad_commit(detail: str) -> Problem:
    """400."""
    return _said(BAD_COMMIT, detail)


def no_upload(detail: str) -> Problem:
    """403: an address that was never given out, or is too old."""
    return _said(NO_UPLOAD, detail)


def not_built(detail: str) -> Problem:
    """422: the content has to come in full."""
    return _said(NOT_BUILT, detail)
