"""The embedded hub as a follower sees it: read over HTTP, and told of every move of the channel within milliseconds."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import quote

import httpx
import msgspec

from publish.errors import HubUnavailable, VersionMissing
from publish.pointer import Pointer, check_channel, decode_pointer
from publish.settings import FollowSettings

LIVE = "/api/stovetop/v1"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
SILENCE = 15.0
"""Seconds without a byte after which a stream is taken for dead; the hub says something every five."""
PAUSE = 0.5
"""Seconds between two tries to open the stream."""

logger = logging.getLogger(__name__)


class _Numbers(msgspec.Struct, frozen=True):
    numbers: tuple[int, ...]


_decode_numbers = msgspec.json.Decoder(_Numbers).decode


class HttpHub:
    """Read-only: versions come from the publisher, who writes to the hub's directory. Trusted with nothing.

    The stream of a channel is opened by the first `watch`, and kept by a daemon thread until `close`.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url.rstrip("/"), token
        self._client = httpx.Client(
            base_url=self._url + LIVE,
            headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
            timeout=TIMEOUT,
            trust_env=False,
        )
        self._streams: dict[str, _Stream] = {}

    @property
    def name(self) -> str:
        """The hub's address."""
        return self._url

    @property
    def place(self) -> FollowSettings:
        """What a follower in another process opens."""
        return FollowSettings(url=self._url, token=self._token)

    def close(self) -> None:
        """End the streams and let connections go."""
        for stream in self._streams.values():
            stream.closing.set()
        self._client.close()

    def numbers(self) -> Sequence[int]:
        """Every number that was ever committed, ascending."""
        return _decode_numbers(self._get("/versions").content).numbers

    def manifest(self, version: int) -> bytes:
        """The stored manifest, byte by byte."""
        return self._get(f"/versions/{version}/manifest").content

    @contextmanager
    def open(self, version: int, name: str) -> Iterator[BinaryIO]:
        """One file of a version."""
        with self._stream(f"/versions/{version}/files/{quote(name)}") as body:
            yield body

    @contextmanager
    def open_delta(self, version: int) -> Iterator[BinaryIO]:
        """The delta beside a version."""
        with self._stream(f"/versions/{version}/delta") as body:
            yield body

    def channel(self, channel: str) -> Pointer | None:
        """Where a channel stands, not verified."""
        check_channel(channel)
        try:
            stored = self._get(f"/channels/{channel}").content
        except VersionMissing:
            return None
        return decode_pointer(stored, self._url)

    def watch(self, channel: str, seen: int, timeout: float) -> Pointer | None:
        """Wait for the stream to tell of another generation. Raises HubUnavailable while it cannot be opened."""
        check_channel(channel)
        if channel not in self._streams:
            self._streams[channel] = _Stream(self._client, channel, self._url)
        return self._streams[channel].wait(seen, timeout)

    def _get(self, path: str) -> httpx.Response:
        try:
            response = self._client.get(path)
        except httpx.HTTPError as error:
            raise HubUnavailable(f"{self._url}: {error or type(error).__name__}") from error
        check(response, self._url + path)
        return response

    @contextmanager
    def _stream(self, path: str) -> Iterator[BinaryIO]:
        try:
            with self._client.stream("GET", path) as response:
                check(response, self._url + path)
                yield io.BufferedReader(Body(response), 1 << 20)
        except httpx.HTTPError as error:
            raise HubUnavailable(f"{self._url}: {error or type(error).__name__}") from error


class Body(io.RawIOBase):
    """The body of a response as a file."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.iter_raw(1 << 20)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


class _Stream:
    """The events of one channel, read in a thread; `wait` takes the latest."""

    def __init__(self, client: httpx.Client, channel: str, url: str) -> None:
        self._client, self._channel, self._url = client, channel, url
        self._changed = threading.Condition()
        self._pointer: Pointer | None = None
        self._error: str | None = None
        self.closing = threading.Event()
        threading.Thread(target=self._run, name=f"events-{channel}", daemon=True).start()

    def wait(self, seen: int, timeout: float) -> Pointer | None:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                if self._error is not None:
                    raise HubUnavailable(self._error)
                if self._pointer is not None and self._pointer.generation != seen:
                    return self._pointer
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return None

    def _run(self) -> None:
        while not self.closing.is_set():
            try:
                self._follow()
                self._failed(f"{self._url}: the hub ended the stream of channel {self._channel!r}")
            except Exception as error:  # the way to a hub may fail in any way, and a closed client in its own
                self._failed(f"{self._url}: {error or type(error).__name__}")
            self.closing.wait(PAUSE)

    def _follow(self) -> None:
        path = f"/channels/{self._channel}/events"
        with self._client.stream("GET", path, timeout=httpx.Timeout(SILENCE, connect=5.0)) as response:
            check(response, self._url + path)
            for line in response.iter_lines():
                if self.closing.is_set():
                    return
                with self._changed:
                    if line.startswith("data: "):
                        self._pointer = decode_pointer(line[len("data: ") :].encode(), self._url)
                    self._error = None
                    self._changed.notify_all()

    def _failed(self, error: str) -> None:
        with self._changed:
            self._error, self._pointer = error, None
            self._changed.notify_all()


def check(response: httpx.Response, url: str) -> None:
    """Raises VersionMissing for a 404, HubUnavailable for every other refusal: a token may be given later."""
    if response.status_code == 404:
        raise VersionMissing(f"{url}: the hub has it not (any more)")
    if response.status_code != 200:
        raise HubUnavailable(f"{url}: the hub answers {response.status_code} {response.reason_phrase}")
