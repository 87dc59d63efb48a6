"""What `stovetop doctor` looks at: each check says how it is, what was seen, and the way out."""

from __future__ import annotations

import contextlib
import email.utils
import importlib.metadata
import importlib.util
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

import apsw
import crc32c
import httpx
import msgspec

from auth import InvalidTokenFile, TokenStore
from ingest.entries import Entry
from ingest.errors import IngestError
from ingest.shard_reader import Shard
from ingest.shard_writer import ShardWriter
from ingest.shards import ShardStore
from ingest.sqlite.layout import FIRST_SAFE_SQLITE
from ingest.types import OWNERS
from stovetop.doors import Doors
from stovetop.errors import NotRunning
from stovetop.settings import Settings

PACKAGES = ("auth", "control", "dataset", "ingest", "publish", "stovetop", "trainer", "interactive_training")
"""Our top-level names: common words, which other distributions use as well."""
DISTRIBUTION = "stovetop"
FILES = 4096
GIB = 1 << 30
LITTLE, TOO_LITTLE = 10 * GIB, GIB
SKEW_SECONDS = 2.0
PROBE = "doctor"
"""The folder of the archive in which a shard is tried; nothing else reads it."""


class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """One check's result; `way_out` says what to do about it."""

    check: str
    state: State
    what: str
    way_out: str = ""


def diagnose(settings: Settings) -> Iterator[Finding]:
    """All checks, one after the other. A check that fails itself is a finding too, so that the others are made."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _packages,
        _libraries,
        _limits,
        _disks,
        _clocks,
        _ports,
        _secrets,
        _log,
        _archive,
    )
    for check in checks:
        name = check.__name__.lstrip("_")
        try:
            yield from check(settings)
        except Exception as error:
            yield Finding(name, State.FAIL, f"the check itself failed: {type(error).__name__}: {error}")


def _packages(settings: Settings) -> Iterator[Finding]:
    """Whether each of our packages is the one that Python finds."""
    home, shadowed = Path(__file__).resolve().parents[1], False
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or home not in origin.parents:
            shadowed = True
            yield Finding(
                "packages",
                State.FAIL,
                f"`{name}` is found at {origin or 'no place'}, not below {home}",
                "take that folder out of PYTHONPATH, or install Stovetop into an environment of its own",
            )
    for name, distributions in importlib.metadata.packages_distributions().items():
        others = sorted({each for each in distributions if each.lower() != DISTRIBUTION})
        if name in PACKAGES and others:
            shadowed = True
            yield Finding(
                "packages",
                State.WARN,
                f"`{name}` is also installed by {', '.join(others)}; which of them is found depends on the path",
                f"pip uninstall {' '.join(others)}, or install Stovetop into an environment of its own",
            )
    if not shadowed:
        yield Finding("packages", State.OK, f"all {len(PACKAGES)} of ours are found below {home}")


def _libraries(settings: Settings) -> Iterator[Finding]:
    version = apsw.sqlite_lib_version()
    safe = tuple(int(part) for part in version.split(".")) >= FIRST_SAFE_SQLITE
    yield Finding(
        "sqlite",
        State.OK if safe else State.FAIL,
        f"SQLite {version}" + ("" if safe else " can lose commits when two connections write or checkpoint"),
        "" if safe else "pip install 'apsw>=3.51.3', which brings its own",
    )
    native = bool(getattr(crc32c, "hardware_based", False))
    yield Finding(
        "crc32c",
        State.OK if native else State.WARN,
        "CRC-32C is computed by the processor" if native else "CRC-32C is computed in software, which is slower",
        "" if native else "use a wheel of crc32c for this machine (SSE 4.2, or ARMv8 with CRC)",
    )


def _limits(settings: Settings) -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = files == resource.RLIM_INFINITY or files >= FILES
    yield Finding(
        "open files",
        State.OK if enough else State.WARN,
        f"this user may open {files} files at once",
        "" if enough else f"ulimit -n {FILES}: each connection and each shard that is read takes one",
    )
    budget = settings.gateway.budget_bytes
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fits = budget < memory // 4
    yield Finding(
        "memory",
        State.OK if fits else State.WARN,
        f"{memory / GIB:.1f} GiB; the gateway's bodies may take {budget / GIB:.2f} of them",
        "" if fits else "lower gateway.budget_bytes, or this machine may have to swap",
    )


def _disks(settings: Settings) -> Iterator[Finding]:
    places = {"data": settings.data, "log": settings.log.folder, "archive": settings.archive.folder}
    seen: set[int] = set()
    for name, folder in places.items():
        existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        device = os.stat(existing).st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(existing).free
        state = State.FAIL if free < TOO_LITTLE else State.WARN if free < LITTLE else State.OK
        way_out = f"make room, or move {name} to a larger disk" if state is not State.OK else ""
        yield Finding("disk", state, f"{free / GIB:.1f} GiB are free at {existing} ({name})", way_out)


def _clocks(settings: Settings) -> Iterator[Finding]:
    settings.data.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=settings.data) as file:
        file.write(b"tick")
        file.flush()
        skew = os.stat(file.name).st_mtime - time.time()
    yield _skew("the file system of data", skew, SKEW_SECONDS)
    with contextlib.suppress(NotRunning, httpx.TransportError):
        reply = httpx.get(f"{Doors.read(settings).gateway}/livez", timeout=5.0)
        stated = reply.headers.get("date")
        if stated:  # in whole seconds
            yield _skew(
                "the gateway", email.utils.parsedate_to_datetime(stated).timestamp() - time.time(), SKEW_SECONDS + 1
            )


def _skew(whose: str, skew: float, most: float) -> Finding:
    fits = abs(skew) <= most
    return Finding(
        "clock",
        State.OK if fits else State.WARN,
        f"the clock of {whose} is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this one",
        "" if fits else "let chrony or systemd-timesyncd set both clocks: ages and retention go by them",
    )


def _ports(settings: Settings) -> Iterator[Finding]:
    try:
        doors: Doors | None = Doors.read(settings)
    except NotRunning:
        doors = None
    for role, host, port in (
        ("gateway", settings.gateway.host, settings.gateway.port),
        ("control", settings.control.host, settings.control.port),
        ("hub", settings.hub.host, settings.hub.port),
    ):
        if not port:
            continue
        ours = doors is not None and f":{port}" in getattr(doors, role) and _alive(doors.pid)
        if ours:
            yield Finding("port", State.OK, f"{role}: {host}:{port} is this service's own")
        elif _answers(host, port):
            yield Finding(
                "port",
                State.WARN,
                f"{role}: something else listens on {host}:{port}",
                f"stop it, or set {role}.port; where none is set the next free one is taken",
            )
        else:
            yield Finding("port", State.OK, f"{role}: {host}:{port} is free")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answers(host: str, port: int) -> bool:
    target = "127.0.0.1" if host in ("0.0.0.0", "") else host
    try:
        with socket.create_connection((target, port), timeout=1.0):
            return True
    except OSError:
        return False


def _secrets(settings: Settings) -> Iterator[Finding]:
    """Files that only this user may read."""
    private = [settings.tokens, *sorted(settings.secrets.glob("*")), *sorted((settings.data / "keys").glob("*"))]
    there = [path for path in private if path.is_file() and path.suffix != ".pub"]
    open_to_all = [path for path in there if path.stat().st_mode & 0o077]
    for path in open_to_all:
        mode = path.stat().st_mode & 0o777
        yield Finding("secrets", State.FAIL, f"{path} has mode {mode:04o}, so others may read it", f"chmod 600 {path}")
    if settings.tokens.exists():
        try:
            names = TokenStore(settings.tokens).names()
        except InvalidTokenFile as error:
            yield Finding("tokens", State.FAIL, str(error), "restore it from a copy, or delete it and mint again")
        else:
            yield Finding("tokens", State.OK, f"{len(names)} are accepted: {', '.join(sorted(names))}")
    else:
        yield Finding(
            "tokens", State.WARN, f"{settings.tokens} is not there, so no door opens", "stovetop token NAME -s …"
        )
    if not open_to_all:
        yield Finding("secrets", State.OK, f"{len(there)} files are readable by this user only")


def _log(settings: Settings) -> Iterator[Finding]:
    """The log, or its broker: whether every topic can be looked at."""
    kind = settings.log.backend
    try:
        with contextlib.closing(settings.log.open().reader()) as reader:
            bounds = {
                topic: [reader.bounds(topic, number) for number in range(reader.partitions(topic))] for topic in OWNERS
            }
            held = {topic: sum(each.end - each.start for each in listed) for topic, listed in bounds.items()}
    except IngestError as error:
        yield Finding("log", State.FAIL, f"{kind}: {error}", "see that it is up, and that the settings name it rightly")
        return
    told = ", ".join(f"{count} of {topic}" for topic, count in held.items())
    yield Finding("log", State.OK, f"{kind}: it holds {told}")


def _archive(settings: Settings) -> Iterator[Finding]:
    """Whether the store takes a shard, gives it back, refuses another of the same name, and removes it."""
    try:
        store = settings.archive.open().for_writing(settings.log.open())
        _try_store(store)
    except (IngestError, OSError) as error:
        yield Finding("archive", State.FAIL, str(error), "see its address, its permissions and its credentials")
    else:
        yield Finding("archive", State.OK, f"{store!r} takes shards, reads them back, and never overwrites one")


def _try_store(store: ShardStore) -> None:
    first = time.time_ns() // 1000
    made = []
    for text in (b"one", b"two"):
        writer = ShardWriter(store, PROBE, 0, first)
        try:
            writer.add(Entry(first, 0, "probe/000000-00", time.time(), {"txt": text}))
            writer.record(first, time.time())
            made.append(writer.publish())
        finally:
            writer.discard()
    try:
        kept = next(Shard(store, writer.name).entries()).members["txt"]
    finally:
        store.remove(writer.name)
    if made != [True, False] or kept != b"one":
        raise IngestError(
            f"{store!r}: a second shard of one name was not refused; archive to a store with conditional writes"
        )
    if store.size(writer.name) is not None:
        raise IngestError(f"{store!r}: a shard was not removed, so what is deleted would stay; allow it to delete")
