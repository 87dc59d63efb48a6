"""Sample pictures of versions: taken whole or not at all, checked, bounded, and shown as pictures and nothing else."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from control import ActorConnection, ControlClient, EventType
from control.api.samples import MOST_SAMPLE_BYTES, MOST_SAMPLES
from control.bodies import VersionBody
from control.errors import Refused
from control.png import LONGEST_SIDE, png_size
from control.store import Store
from tests.control.conftest import Serve
from tests.control.servers import HTTP, Served

RUN = "demo"


def png(width: int = 6, height: int = 4, mode: str = "RGB", colour: Any = None) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height), colour or 0).save(file, "PNG")
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def header(width: int, height: int, rest: bytes = bytes([8, 2, 0, 0, 0])) -> bytes:
    return chunk(b"IHDR", struct.pack(">II", width, height) + rest)


PICTURE = png()
HEAD, TAIL = PICTURE[:8], chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def publish(served: Served, *versions: int, run: str = RUN) -> None:
    """Tell of versions as a publisher does."""
    with ActorConnection(served.url, served.tokens.operate, run=run, actor="publisher", kind="publisher") as line:
        for version in versions:
            line.tell(EventType.VERSION, VersionBody(version=version, action="published"), step=version * 10)


def sampled(client: ControlClient, run: str = RUN) -> dict[int, tuple[str, ...]]:
    """The labels of the pictures of each version."""
    return {told.version: tuple(sample.label for sample in told.samples) for told in client.versions(run).versions}


def refusal(attempt: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as refused:
        attempt()
    return refused.value


def test_pictures_of_a_version_are_kept_and_had_back_byte_by_byte(served: Served, client: ControlClient) -> None:
    publish(served, 1, 2)
    pictures = {"opening a window": PICTURE, "closing it": png(90, 12, "P")}
    shown = client.show_samples(RUN, 2, pictures)
    assert [(info.label, info.width, info.height) for info in shown.samples] == [
        ("opening a window", 6, 4),
        ("closing it", 90, 12),
    ]
    assert sampled(client) == {1: (), 2: ("opening a window", "closing it")}
    assert [client.sample(info.sha256) for info in shown.samples] == list(pictures.values())
    told = [event for event in client.history(run=RUN, types=[EventType.VERSION]).events if event.step == 20]
    assert [event.body["action"] for event in told] == ["published", "sampled"]
    client.show_samples(RUN, 2, {"another": PICTURE})  # in place of those before
    assert sampled(client)[2] == ("another",)
    assert refusal(lambda: client.sample(shown.samples[1].sha256)).status == 404


def test_a_picture_is_sent_as_a_picture_and_nothing_else(served: Served, client: ControlClient) -> None:
    publish(served, 1)
    (info,) = client.show_samples(RUN, 1, {"it": PICTURE}).samples
    answer = HTTP.get(
        f"{served.url}/api/v1/samples/{info.sha256}", headers={"Authorization": f"Bearer {served.tokens.read}"}
    )
    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "immutable" in answer.headers["cache-control"]


def test_who_may_only_read_shows_no_pictures_and_who_has_no_token_sees_none(served: Served) -> None:
    publish(served, 1)
    (info,) = served.client.show_samples(RUN, 1, {"it": PICTURE}).samples
    for token in (served.tokens.read, served.tokens.ingest):
        with ControlClient(served.url, token) as other:
            refused = refusal(lambda other=other: other.show_samples(RUN, 1, {"other": PICTURE}))  # type: ignore[misc]
            assert refused.status == 403
    assert HTTP.get(f"{served.url}/api/v1/samples/{info.sha256}").status_code == 401
    assert sampled(served.client) == {1: ("it",)}


def test_pictures_of_a_version_that_nobody_told_of_are_refused(served: Served, client: ControlClient) -> None:
    publish(served, 1)
    refused = refusal(lambda: client.show_samples(RUN, 7, {"it": PICTURE}))
    assert (refused.status, "has not told of a version 7" in str(refused)) == (404, True)
    assert refusal(lambda: client.show_samples("other", 1, {"it": PICTURE})).status == 404


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        ({"page": b"<!doctype html><script>alert(1)</script>"}, "'page': it does not begin as a PNG file does"),
        ({"jpeg": b"\xff\xd8\xff\xe0" + bytes(40)}, "'jpeg': it does not begin as a PNG file does"),
        ({"ok": PICTURE, "cut": PICTURE[:-5]}, "'cut': a chunk is cut off"),
        ({"headless": HEAD + TAIL}, "'headless': its first chunk is b'IDAT'"),
        ({"followed": PICTURE + b"<script>"}, "'followed': 8 bytes follow its end"),
        ({"bent": PICTURE[:44] + b"\x7f" + PICTURE[45:]}, "'bent': the checksum of chunk b'IDAT' is wrong"),
        ({"wide": HEAD + header(LONGEST_SIDE + 1, 1) + TAIL}, f"'wide': it is {LONGEST_SIDE + 1} x 1 pixels"),
        ({"bomb": HEAD + header(8000, 8000) + TAIL}, "'bomb': it is 8000 x 8000 pixels"),
        ({"none": HEAD + header(0, 5) + TAIL}, "'none': it is 0 x 5 pixels"),
        ({"odd": HEAD + header(5, 5, bytes([3, 2, 0, 0, 0])) + TAIL}, "'odd': its header names colours"),
        ({"empty": HEAD + header(5, 5) + chunk(b"IEND", b"")}, "'empty': it holds no picture"),
        ({"heavy": HEAD + header(5, 5) + chunk(b"teXt", bytes(MOST_SAMPLE_BYTES)) + TAIL}, "'heavy': 262"),
        ({str(n): HEAD + header(5, 5) + chunk(b"teXt", bytes(200_000)) + TAIL for n in range(3)}, "send fewer"),
    ],
)
def test_what_is_no_picture_of_a_sensible_size_is_refused_with_the_reason(
    served: Served, client: ControlClient, pictures: dict[str, bytes], told: str
) -> None:
    publish(served, 1)
    client.show_samples(RUN, 1, {"before": PICTURE})
    refused = refusal(lambda: client.show_samples(RUN, 1, pictures))
    assert refused.status == 422
    assert told in str(refused)
    assert sampled(client) == {1: ("before",)}  # all of them or none


def test_too_many_pictures_and_what_is_no_base64_are_refused(served: Served, client: ControlClient) -> None:
    publish(served, 1)
    address = f"{served.url}/api/v1/runs/{RUN}/versions/1/samples"
    told = {"label": "it", "png": base64.b64encode(PICTURE).decode()}
    for wrong in (
        [],
        [{**told, "label": str(n)} for n in range(MOST_SAMPLES + 1)],
        [{**told, "label": ""}],
        [{**told, "label": "x" * 121}],
        [{**told, "png": "%%%"}],
        [told, told],
    ):
        answer = HTTP.put(
            address, json={"samples": wrong}, headers={"Authorization": f"Bearer {served.tokens.operate}"}
        )
        assert answer.status_code in (400, 422), wrong
        assert answer.headers["content-type"] == "application/problem+json"
    assert sampled(client) == {1: ()}


def test_only_the_newest_versions_of_a_run_keep_their_pictures(serve: Serve) -> None:
    served = serve(keep_samples=2)
    publish(served, 1, 2, 3)
    publish(served, 1, run="other")
    served.client.show_samples("other", 1, {"it": PICTURE})
    for version in (1, 2, 3):
        served.client.show_samples(RUN, version, {"it": png(colour=(version, 0, 0))})
    assert sampled(served.client) == {1: (), 2: ("it",), 3: ("it",)}
    assert sampled(served.client, "other") == {1: ("it",)}


def test_pictures_outlive_the_server_and_tables_that_are_made_again(served: Served, client: ControlClient) -> None:
    publish(served, 1)
    (info,) = client.show_samples(RUN, 1, {"it": PICTURE}).samples
    served.thread.stop()
    store = Store(served.settings.data)
    store.rebuild()
    store.close()
    served.restart()
    assert sampled(client) == {1: ("it",)}
    assert client.sample(info.sha256) == PICTURE


def test_every_kind_of_picture_that_pillow_writes_is_taken() -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        assert png_size(png(7, 3, mode)) == (7, 3)


@given(st.binary(max_size=200), st.integers(0, len(PICTURE)), st.integers(0, 40))
def test_any_bytes_are_a_picture_or_refused_with_a_reason(noise: bytes, at: int, cut: int) -> None:
    changed = PICTURE[:at] + noise + PICTURE[at + cut :]
    if changed == PICTURE:
        return
    with pytest.raises(ValueError, match=r"\w+"):
        png_size(changed)
