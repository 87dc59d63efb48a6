"""Tars that apps make are read; those that somebody made on purpose, or that were cut, are not."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import InvalidBody
from ingest.ustar import Member, archive, members

FILES = [Member("000000.json", b"{}"), Member("000000.png", bytes(range(256)) * 5), Member("000001.json", b"")]


def made_by_tarfile(files: list[Member], format: int, mtime: float = 0) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(change: Callable[[tarfile.TarInfo], None], content: bytes = b"", format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        info = tarfile.TarInfo("000000.json")
        info.size = len(content)
        change(info)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(data: bytes, max_members: int = 100) -> list[Member]:
    return list(members(data, max_members))


def test_our_own_archives_are_read_by_us_and_by_tarfile() -> None:
    data = archive(FILES)
    assert read(data) == FILES
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [Member(each.name, tar.extractfile(each).read()) for each in tar] == FILES  # type: ignore[union-attr]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_tarfile_are_read(format: int) -> None:
    assert read(made_by_tarfile(FILES, format)) == FILES


def test_archives_of_webdataset_with_a_header_before_each_member_are_read() -> None:
    assert read(made_by_tarfile(FILES, tarfile.PAX_FORMAT, mtime=1_763_800_000.25)) == FILES
    buffer = io.BytesIO()
    with webdataset.TarWriter(buffer) as writer:
        writer.write({"__key__": "000007", "json": {"seq": 7}, "npy": b"raw"})
    assert [name for name, _ in read(buffer.getvalue())] == ["000007.json", "000007.npy"]


def _symlink(info: tarfile.TarInfo) -> None:
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"


def _hardlink(info: tarfile.TarInfo) -> None:
    info.type, info.linkname = tarfile.LNKTYPE, "/etc/passwd"


def _kind(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type = kind

    return change


def _name(name: str) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.name = name

    return change


def _pax(**headers: str) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.pax_headers = {key.replace("__", "."): value for key, value in headers.items()}

    return change


@pytest.mark.parametrize(
    "data",
    [
        special(_symlink),
        special(_hardlink),
        special(_kind(tarfile.DIRTYPE)),
        special(_kind(tarfile.CHRTYPE)),
        special(_kind(tarfile.FIFOTYPE)),
        special(_kind(tarfile.CONTTYPE)),
        special(_kind(tarfile.GNUTYPE_SPARSE)),
        special(_name("x" * 150)),
        special(_name("folder/" * 20 + "000000.json"), format=tarfile.USTAR_FORMAT),
        special(_pax(path="../../etc/passwd"), format=tarfile.PAX_FORMAT),
        special(_pax(linkpath="/etc/passwd"), format=tarfile.PAX_FORMAT),
        special(_pax(GNU__sparse__map="0,1"), format=tarfile.PAX_FORMAT),
        special(_pax(comment="x" * 20_000), format=tarfile.PAX_FORMAT),
    ],
)
def test_anything_but_plain_files_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidBody):
        read(data)


def _patched(place: int, value: bytes, mend: bool = True) -> bytes:
    data = bytearray(archive(FILES))
    data[place : place + len(value)] = value
    if mend:
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "truncated-tar"),
        (b"garbage", "truncated-tar"),
        (b"garbage" * 200, "not-a-tar"),
        (bytes(512), "truncated-tar"),
        (bytes(1024) + b"more" * 128, "not-a-tar"),
        (_patched(0, b"Z", mend=False), "not-a-tar"),
        (_patched(257, b"tsuar"), "not-ustar"),
        (_patched(124, b"99999999999\0"), "not-a-tar"),
        (_patched(124, b"-0000000001\0"), "not-a-tar"),
        (_patched(124, b"\x80" + bytes(10) + b"\x01"), "not-a-tar"),
        (_patched(124, b"77777777777\0"), "truncated-tar"),
        (_patched(0, b"\xff\xfe"), "unsafe-name"),
        (_patched(345, b"etc"), "unsafe-name"),
    ],
)
def test_what_is_no_ustar_is_refused_by_name(data: bytes, code: str) -> None:
    with pytest.raises(InvalidBody) as raised:
        read(data)
    assert raised.value.code == code


def test_a_tar_that_was_cut_anywhere_is_refused() -> None:
    data = archive(FILES)
    for end in range(0, len(data) - 512, 256):
        with pytest.raises(InvalidBody):
            read(data[:end])


def test_the_number_of_members_is_bounded() -> None:
    data = archive([Member("0.json", b"")] * 11)
    assert len(read(data, max_members=11)) == 11
    with pytest.raises(InvalidBody, match="more than 10 members"):
        read(data, max_members=10)


@given(st.binary(max_size=3000), st.integers(0, 2600), st.binary(min_size=1, max_size=40))
def test_whatever_comes_is_read_or_refused(noise: bytes, place: int, patch: bytes) -> None:
    whole = archive(FILES)
    for data in (noise, whole[:place] + patch + whole[place + len(patch) :], noise[:512] + whole):
        try:
            read(data)
        except InvalidBody:
            continue
