"""Posts logged sessions through the gateway's protocol, each exactly once, however often it is begun.

A session's id follows from the file's, so one that was begun goes on where the gateway stands. What is complete is
written down in a folder of this machine as well, because the gateway forgets a session some time after its end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import msgspec

from ingest.client import SessionClient
from ingest.conversation import ClientSettings
from ingest.errors import BufferFull, ClientError, Refused, StepTooLarge
from ingest.importing import BadLine, LogFile, LoggedSession

APP = "neuralos"
FLUSH_SECONDS = 300.0
SETTINGS = ClientSettings(batch_steps=512, buffer_bytes=16 << 20)


class Summary(msgspec.Struct):
    """What an import did. `known` sessions were imported before; `growing` files were left for another time."""

    files: int = 0
    sessions: int = 0
    steps: int = 0
    frames: int = 0
    known: int = 0
    growing: list[Path] = []
    bad: list[BadLine] = []
    failed: dict[str, str] = {}
    unused_frames: int = 0


class Ledger:
    """Which sessions are complete: a file for each, written after the gateway has acknowledged the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, session: LoggedSession) -> bool:
        """Whether a session was imported before."""
        return (self._folder / session.session_id).exists()

    def begun(self, session_id: str) -> bool:
        """Whether an import has begun to post a session."""
        return (self._folder / f"{session_id}.begun").exists()

    def begin(self, session_id: str) -> Path:
        """A session is about to be posted, durably; the file that says so."""
        path = self._folder / f"{session_id}.begun"
        if not path.exists():
            self._write(path, {"at": time.time()})
        return path

    def add(self, session: LoggedSession) -> None:
        """A session is complete, durably."""
        said = {"file": str(session.file), "steps": len(session.steps), "at": time.time()}
        self._write(self._folder / session.session_id, said)

    def _write(self, path: Path, said: dict[str, object]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with staged.open("wb") as file:
            file.write(msgspec.json.encode(said))
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Importer:
    """Imports files into a gateway. `app` is what the sessions are posted as; `tell` hears of bad lines as they come."""

    def __init__(
        self,
        url: str,
        token: str,
        ledger: Ledger,
        *,
        app: str = APP,
        quiet_seconds: float = 300.0,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._url, self._token, self._ledger, self._app = url, token, ledger, app
        self._quiet, self._tell = quiet_seconds, tell
        self.summary = Summary()

    def run(self, files: Iterable[Path]) -> Summary:
        """Import each file; one that cannot be read or posted is told, and the rest goes on.

        A file whose last session has no end, and that has changed within `quiet_seconds`, is still being written: it is
        left for another time. Raises `ClientError` where the gateway does not answer.
        """
        with httpx.Client(timeout=30.0) as http:
            for path in files:
                try:
                    changed = path.stat().st_mtime
                    logged = LogFile(path).read()
                except OSError as error:
                    self.summary.failed[str(path)] = str(error)
                    self._tell(f"{path}: {error}")
                    continue
                self._take(logged, time.time() - changed < self._quiet, http)
        return self.summary

    def _take(self, logged: LogFile, fresh: bool, http: httpx.Client) -> None:
        summary = self.summary
        if fresh and not (logged.sessions and logged.sessions[-1].ended):
            summary.growing.append(logged.path)
            self._tell(f"{logged.path}: left for another time, it is still being written")
            return
        summary.files += 1
        summary.bad += logged.bad
        summary.unused_frames += logged.unused
        for bad in logged.bad:
            self._tell(str(bad))
        for session in logged.sessions:
            if self._ledger.has(session):
                summary.known += 1
                continue
            try:
                self._post(session, http)
            except (BufferFull, Refused, StepTooLarge, OSError, ValueError) as error:
                summary.failed[session.session_id] = str(error)
                self._tell(f"{session.file}: session {session.session_id} was not imported: {error}")

    def _post(self, session: LoggedSession, http: httpx.Client) -> None:
        """Post what the gateway does not have of a session, and end it.

        Where it was ended half-way, by its silence after an import had died, the rest is a session of its own.
        """
        done, session_id = 0, session.session_id
        while (known := self._known(session_id, http)) is not None and known.ended:
            if known.deleted:
                self._tell(f"{session.file}: session {session_id} was deleted; it is not imported again")
            if known.deleted or known.next_seq + done >= len(session.steps):
                self._ledger.add(session)
                self.summary.known += 1
                return
            done += known.next_seq
            session_id = f"{session.session_id}-from-{done}"
        if known is None and self._ledger.begun(session_id):
            raise ValueError(
                "an earlier import had begun it, and the gateway has forgotten how far that came; import it under another "
                f"id (rename the file), or take {self._ledger.begin(session_id)} away to post it all again"
            )
        self._ledger.begin(session_id)
        done += self._stream(session, session_id, done, http)
        self._ledger.add(session)
        self.summary.sessions += 1

    def _stream(self, session: LoggedSession, session_id: str, first: int, http: httpx.Client) -> int:
        """Post the steps from `first` on that the gateway does not have, and end the session; how many it has now."""
        client = SessionClient(
            self._url,
            self._token,
            self._app,
            metadata={"imported_from": "neuralos", "logged_id": session.logged_id, "part": session.part, "from": first},
            session_id=session_id,
            resume=True,
            settings=SETTINGS,
            http=http,
        )
        try:
            client.open(FLUSH_SECONDS)
            for step in session.steps[first + client.next_seq :]:
                client.post(
                    step.inputs,
                    members=step.members(),
                    is_reset=step.is_reset,
                    is_eos=step.is_eos,
                    time=step.time,
                    extra=step.extra,
                    timeout=FLUSH_SECONDS,
                )
                self.summary.steps += 1
                self.summary.frames += step.frame is not None
            client.end(FLUSH_SECONDS)
        finally:
            client.close()
        return client.next_seq

    def _known(self, session_id: str, http: httpx.Client) -> _Known | None:
        """What the gateway knows of a session; None where it knows nothing (any more)."""
        url = f"{self._url.rstrip('/')}/v1/sessions/{session_id}"
        try:
            reply = http.get(url, headers={"Authorization": f"Bearer {self._token}"})
        except httpx.TransportError as error:
            raise ClientError(f"the gateway does not answer at {self._url} ({error}); is it running?") from error
        if reply.status_code == 404:
            return None
        said = _said.decode(reply.content)
        if reply.status_code == 410:
            return _Known(0, ended=True, deleted=said.type.endswith("session-deleted"))
        if reply.is_error:
            raise ClientError(f"the gateway refused ({reply.status_code}): {said.detail}")
        return _Known(said.next_seq, ended=said.state == "ended")


class _Known(msgspec.Struct, frozen=True):
    next_seq: int
    ended: bool
    deleted: bool = False


class _Said(msgspec.Struct):
    type: str = ""
    detail: str = ""
    state: str = ""
    next_seq: int = 0


_said = msgspec.json.Decoder(_Said)
