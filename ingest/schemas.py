"""Session schemas: what an app says of its own steps (JSON Schema), by app and version.

An app's schema is one JSON Schema document, or a list of them, oldest first, each with a `version` of its own. It
describes a step as it is posted (`seq`, `time`, `inputs`, …). A session is held to the version that it was opened with,
the newest unless it names one; so an app can be brought up to date while its older visitors finish.

References to other hosts are not followed, and patterns are matched in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

from ingest.errors import SchemaError
from ingest.plugins import load_plugin
from ingest.types import Rejection

DETAIL_LENGTH = 300
FIRST_VERSION = "1"
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class SessionSchema:
    """One version of one app's schema."""

    def __init__(self, app: str, version: str, document: dict[str, Any]) -> None:
        self.name, self.version, self.document = f"{app}/{version}", version, document
        try:
            self._validator = jsonschema_rs.validator_for(
                document, validate_formats=True, offline=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            raise SchemaError(f"the session schema {self.name} is not a JSON Schema: {_short(str(error))}") from error

    def check(self, step: Mapping[str, Any]) -> Rejection | None:
        """The first thing in which a step breaks the schema; None where it keeps it."""
        if self._validator.is_valid(step):
            return None
        error = next(iter(self._validator.iter_errors(step)))
        kind = _CAMEL.sub("-", type(error.kind).__name__.partition("_")[2] or type(error.kind).__name__).lower()
        pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error.instance_path)
        return Rejection(kind, _short(error.message), pointer, self.name)


class SessionSchemas:
    """All apps' schemas. `references` are `module:name` or the path of a JSON file, by app.

    Raises `SchemaError` or `PluginError` for one that cannot be used.
    """

    def __init__(self, references: Mapping[str, str]) -> None:
        self._apps = {app: _versions(app, _document(reference)) for app, reference in references.items()}

    def versions(self) -> dict[str, list[str]]:
        """The versions of each app's schema, oldest first."""
        return {app: list(versions) for app, versions in self._apps.items()}

    def newest(self, app: str) -> str | None:
        """The version that sessions of `app` are held to unless they name one; None: it has no schema."""
        return next(reversed(self._apps[app]), None) if app in self._apps else None

    def get(self, app: str, version: str | None) -> SessionSchema | None:
        """The schema of that version, or None."""
        return self._apps.get(app, {}).get(version or "")

    def of_session(self, app: str, version: str | None) -> SessionSchema | None:
        """What a session's steps are held to: its own version while that is still known, else the newest."""
        return self.get(app, version) or self.get(app, self.newest(app))


def _document(reference: str) -> Any:
    if not reference.endswith(".json"):
        return load_plugin(reference)
    try:
        return msgspec.json.decode(Path(reference).read_bytes())
    except OSError as error:
        raise SchemaError(f"the session schema {reference} cannot be read ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise SchemaError(f"the session schema {reference} is not JSON ({error})") from error


def _versions(app: str, found: Any) -> dict[str, SessionSchema]:
    documents = found if isinstance(found, list | tuple) else [found]
    if not documents:
        raise SchemaError(f"the session schema of {app!r} is an empty list; give it a version, or leave the app out")
    versions: dict[str, SessionSchema] = {}
    for document in documents:
        if not isinstance(document, dict):
            raise SchemaError(f"the session schema of {app!r} is {_short(repr(document))}; a JSON object is wanted")
        version = document.get("version", FIRST_VERSION if len(documents) == 1 else None)
        if not isinstance(version, str) or not VERSION.fullmatch(version) or version in versions:
            raise SchemaError(
                f"the session schema of {app!r} has the version {version!r}; each needs one of its own, such as 1-0-0"
            )
        versions[version] = SessionSchema(app, version, document)
    return versions


def _short(text: str) -> str:
    return text if len(text) <= DETAIL_LENGTH else text[: DETAIL_LENGTH - 1] + "…"
