"""A version told by what has changed to a hub that builds it, and sent in full wherever that does not do."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
import zstandard
from safetensors.numpy import save

from auth import Scope, TokenStore
from publish import Base, LiveModel, decode_manifest, put
from publish.codec import Encoding
from publish.delta import FORMAT, LENGTH, MAGIC, Change, How, Index
from publish.pace import Bucket
from publish.transfer import TOLD
from tests.publish.clients import client
from tests.publish.faults import Fault
from tests.publish.parts import Uniform, litter, served_value, ticket
from tests.publish.programs.hub_client import digest_of
from tests.publish.remote import REPOSITORY, Remote, Work, follow_to, follower_of

NUMBERS = 1 << 16
FULL = 2 * 4 * NUMBERS
"""Bytes of a version's weights."""
OBJECTS = f"/{REPOSITORY}.git/info/lfs/objects"
BATCH = f"{OBJECTS}/batch"


def sent_by(remote: Remote, work: Work, step: int) -> int:
    """Bytes of the bodies that publishing takes."""
    before = remote.proxy.sent
    work.publish(step)
    return remote.proxy.sent - before


def check_full(remote: Remote, work: Work, *values: int) -> None:
    """Fails unless each version is there in full, with these values, and a follower that trusts nobody serves the last."""
    for number, value in enumerate(values, 1):
        manifest = decode_manifest(work.hub.manifest(number), str(number))
        folder = remote.root / "read" / str(number)
        folder.mkdir(parents=True)
        for name, digest in manifest.files.items():
            with work.hub.open(number, name) as source:
                data = source.read()
            assert hashlib.sha256(data).hexdigest() == digest.sha256
            (folder / name).write_bytes(data)
        assert served_value(LiveModel(Uniform(), folder)) == value
    follower, live = follower_of(remote)
    follow_to(follower, len(values))
    assert served_value(live) == values[-1]
    follower.close()
    assert not litter(remote.root / "repositories")


def test_a_hub_of_our_own_gets_the_delta_once_and_has_the_version_in_full(remote: Remote) -> None:
    work = Work(remote, numbers=NUMBERS)
    assert sent_by(remote, work, 1) > FULL
    assert sent_by(remote, work, 2) < FULL / 20
    assert sent_by(remote, work, 3) < FULL / 20
    check_full(remote, work, 1, 2, 3)


def test_a_large_delta_is_sent_once(remote: Remote) -> None:
    def write_noise(seed: int) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            noise = np.random.default_rng(0).standard_normal(NUMBERS).astype(np.float32)
            noise[seed::4] += 1.0
            (folder / "config.json").write_text("{}")
            (folder / "model.safetensors").write_bytes(save({"w": noise}))

        return write

    work = Work(remote)
    for step in (1, 2):
        put(work.outbox, write_noise(step), ticket(step))
        before = remote.proxy.sent
        assert work.publisher.step() == 0.0
    base = decode_manifest(work.hub.manifest(2), "2").base
    assert isinstance(base, Base)
    assert base.file.size > 4 * NUMBERS / 5
    assert remote.proxy.sent - before < 1.2 * base.file.size
    with work.hub.open(2, "model.safetensors") as stored, work.hub.open_delta(2) as delta:
        assert (
            hashlib.sha256(stored.read()).hexdigest()
            == decode_manifest(work.hub.manifest(2), "2").files["model.safetensors"].sha256
        )
        assert len(delta.read()) == base.file.size


def test_diffusers_loads_a_channel_whose_files_the_hub_has_built(remote: Remote) -> None:
    import torch

    from tests.publish.nets import unet

    net = unet()
    work, digests, sent = Work(remote), [], []
    for step in (1, 2):
        with torch.no_grad():
            for number in net.parameters():
                number.mul_(1 + 1e-6 * torch.rand_like(number))
        digests.append(digest_of(net))
        put(work.outbox, net.save_pretrained, ticket(step))
        before = remote.proxy.sent
        assert work.publisher.step() == 0.0
        sent.append(remote.proxy.sent - before)
    size = decode_manifest(work.hub.manifest(2), "2").size
    assert sent[0] > size > 2 * sent[1]
    assert client("published", remote.proxy.url, remote.token, remote.root) == digests[::-1]


def test_what_a_version_costs_does_not_grow_with_the_versions_before(remote: Remote) -> None:
    work = Work(remote)
    work.publish(1)
    before = len(remote.proxy.seen)
    for step in range(2, 6):
        work.publish(step)
    asked = [path for method, path in remote.proxy.seen[before:] if method == "GET"]
    assert not [path for path in asked if "/commits/" in path or "/tree/versions" in path or "manifests" in path], asked
    again = Work(remote, "another outbox")  # as after a restart
    again.publish(6)
    assert list(again.hub.numbers()) == [1, 2, 3, 4, 5, 6]


def test_a_server_that_knows_no_such_transfer_gets_the_version_in_full(remote: Remote) -> None:
    remote.proxy.change = lambda method, path, body: body.replace(b'"stovetop-delta",', b"")
    work = Work(remote, numbers=NUMBERS)
    for step in (1, 2):
        assert sent_by(remote, work, step) > FULL
    check_full(remote, work, 1, 2)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 501])
def test_a_server_that_refuses_the_question_gets_the_version_in_full(remote: Remote, status: int) -> None:
    work = Work(remote, numbers=NUMBERS)
    work.publish(1)
    remote.proxy.once("POST", BATCH, Fault(status))
    assert sent_by(remote, work, 2) > FULL
    check_full(remote, work, 1, 2)


def test_a_flipped_byte_of_the_base_is_never_built_upon(remote: Remote) -> None:
    work = Work(remote, numbers=NUMBERS)
    work.publish(1)
    for name, digest in decode_manifest(work.hub.manifest(1), "1").files.items():
        if not name.endswith(".safetensors"):
            continue
        path = remote.objects / digest.sha256
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    put(work.outbox, some_changed(2), ticket(2))
    before = remote.proxy.sent
    assert work.publisher.step() == 0.0
    assert remote.proxy.sent - before > FULL
    found = decode_manifest(work.hub.manifest(2), "2")
    for name, digest in found.files.items():
        with work.hub.open(2, name) as source:
            assert hashlib.sha256(source.read()).hexdigest() == digest.sha256


def some_changed(value: int) -> Callable[[Path], None]:
    """Of the weights with all numbers 1, the first is another."""

    def write(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"size": 64}))
        for number, name, shape in ((1, "first", (NUMBERS,)), (2, "last", (4, NUMBERS // 4))):
            numbers = np.ones(shape, np.float32)
            numbers.flat[0] = value
            (folder / f"model-0000{number}-of-00002.safetensors").write_bytes(save({name: numbers}))

    return write


def test_a_flipped_byte_of_the_delta_under_way_is_refused_and_the_version_goes_in_full(remote: Remote) -> None:
    work = Work(remote, numbers=NUMBERS)
    work.publish(1)
    flipped = []

    def flip(method: str, path: str, body: bytes) -> bytes:
        if method == "PUT" and body.startswith(MAGIC) and not flipped:
            flipped.append(path)
            return body[:20] + bytes([body[20] ^ 1]) + body[21:]
        return body

    remote.proxy.change = flip
    assert sent_by(remote, work, 2) > FULL
    assert flipped
    check_full(remote, work, 1, 2)


def test_a_base_that_a_person_took_away_costs_one_full_version(remote: Remote) -> None:
    work = Work(remote, numbers=NUMBERS)
    work.publish(1)
    remote.api.delete_file("model-00001-of-00002.safetensors", REPOSITORY, revision="versions")
    assert sent_by(remote, work, 2) > FULL / 2
    assert sent_by(remote, work, 3) < FULL / 20
    check_full(remote, work, 1, 2, 3)


def test_objects_that_a_person_deleted_from_the_hub_cost_one_full_version(remote: Remote) -> None:
    work = Work(remote, numbers=NUMBERS)
    work.publish(1)
    for name, digest in decode_manifest(work.hub.manifest(1), "1").files.items():
        if name.endswith(".safetensors"):
            (remote.objects / digest.sha256).unlink()
    assert sent_by(remote, work, 2) > FULL
    assert sent_by(remote, work, 3) < FULL / 20


def second_upload(fault: Fault) -> Callable[[str, str], Fault | None]:
    """The delta gets through, and what is told next does not."""
    seen: list[str] = []

    def choose(method: str, path: str) -> Fault | None:
        if method == "PUT" and path.startswith(OBJECTS):
            seen.append(path)
            return fault if len(seen) == 2 else None
        return None

    return choose


@pytest.mark.parametrize("fault", [Fault(None), Fault(None, after=True)], ids=str)
def test_a_try_that_ended_while_the_hub_was_building_is_followed_by_one_in_full(remote: Remote, fault: Fault) -> None:
    work = Work(remote, numbers=NUMBERS)
    work.publish(1)
    remote.proxy.choose = second_upload(fault)
    work.put(2)
    assert work.publisher.step() > 0
    before = remote.proxy.sent
    work.until_published()
    assert remote.proxy.sent - before > FULL / 2, "it was told again"
    assert remote.titles() == ["initial commit", "version 000001", "version 000002"]
    assert sent_by(remote, work, 3) < FULL / 20
    check_full(remote, work, 1, 2, 3)


@pytest.mark.parametrize("fault", [Fault(500), Fault(502, after=True), Fault(422)], ids=str)
def test_a_hub_that_fails_to_build_gets_the_version_in_full_at_once(remote: Remote, fault: Fault) -> None:
    work = Work(remote, numbers=NUMBERS)
    work.publish(1)
    remote.proxy.choose = second_upload(fault)
    assert sent_by(remote, work, 2) > FULL / 2
    check_full(remote, work, 1, 2)


def test_a_hub_that_asks_to_be_left_alone_while_it_is_told_is_told_again_later(remote: Remote) -> None:
    work = Work(remote, numbers=NUMBERS)
    work.publish(1)
    remote.proxy.choose = second_upload(Fault(503, headers={"Retry-After": "1"}))
    before = remote.proxy.sent
    work.put(2)
    assert work.publisher.step() >= 0.9
    work.until_published()
    assert remote.proxy.sent - before < FULL / 20
    check_full(remote, work, 1, 2)


def test_a_limit_of_bytes_a_second_holds_for_the_delta(remote: Remote) -> None:
    class Watched(Bucket):
        spent = 0.0

        def spend(self, tokens: float) -> float:
            self.spent += tokens
            return super().spend(tokens)

    bucket = Watched(1e9, 1e9)
    work = Work(remote, numbers=NUMBERS, upload=bucket)
    work.publish(1)
    before = bucket.spent
    work.publish(2)
    base = decode_manifest(work.hub.manifest(2), "2").base
    assert isinstance(base, Base)
    assert base.file.size <= bucket.spent - before < FULL / 20


# What the hub lets nobody do


class Door:
    """A client of our transfer at the hub's own door, with an address for the object that is wanted."""

    def __init__(self, remote: Remote, wanted: bytes, *, size: int | None = None) -> None:
        self.remote = remote
        self.headers = {"Authorization": f"Bearer {remote.token}"}
        self.oid, self.size = hashlib.sha256(wanted).hexdigest(), len(wanted) if size is None else size
        remote.api.create_repo(REPOSITORY, exist_ok=True)
        self.href = self.address(self.oid, self.size)

    def address(self, oid: str, size: int) -> str:
        asked = {"operation": "upload", "transfers": ["stovetop-delta"], "objects": [{"oid": oid, "size": size}]}
        answer = httpx.post(self.remote.proxy.url + BATCH, headers=self.headers, json=asked)
        return answer.json()["objects"][0]["actions"]["upload"]["href"]

    def keep(self, content: bytes) -> str:
        """Upload a content as it is; its SHA-256."""
        oid = hashlib.sha256(content).hexdigest()
        if not (self.remote.objects / oid).exists():
            assert httpx.put(self.address(oid, len(content)), content=content).status_code == 200
        return oid

    def commit(self, name: str, content: bytes) -> str:
        """Commit a file; the commit's SHA."""
        return self.remote.api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=REPOSITORY).oid

    def tell(self, delta: str, base: str, name: str = "w.safetensors") -> httpx.Response:
        told = {"delta": delta, "base": base, "name": name}
        return httpx.put(self.href, json=told, headers={"Content-Type": TOLD}, timeout=30)

    def refused(self, answer: httpx.Response, part: str) -> None:
        """Fails unless it is, for that reason, and nothing of it stays."""
        assert answer.status_code == 422, answer.text
        assert part in answer.json()["detail"]
        assert not (self.remote.objects / self.oid).exists()
        assert not litter(self.remote.root / "repositories")


def delta_of(*payloads: bytes, **change: object) -> bytes:
    """A delta of one file, as anybody may write one."""
    index = msgspec.json.encode(Index(FORMAT, (Change("w.safetensors", **change),)))
    return MAGIC + b"".join(payloads) + index + len(index).to_bytes(LENGTH, "little")


def whole(content: bytes, size: int | None = None) -> bytes:
    squeezed = zstandard.ZstdCompressor().compress(content)
    return delta_of(squeezed, how=How.WHOLE, size=len(content) if size is None else size, payload=len(squeezed))


def test_an_object_is_built_once_whoever_tells_it_at_the_same_time(remote: Remote) -> None:
    wanted = os.urandom(100_000)
    door = Door(remote, wanted)
    delta, base = door.keep(whole(wanted)), door.commit("w.safetensors", b"old")
    answers: list[int] = []
    racing = [threading.Thread(target=lambda: answers.append(door.tell(delta, base).status_code)) for _ in range(4)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert answers == [200] * 4
    assert (remote.objects / door.oid).read_bytes() == wanted
    assert not litter(remote.root / "repositories")


def test_what_does_not_lead_to_the_announced_content_is_refused(remote: Remote) -> None:
    wanted = b"w" * 10_000
    door = Door(remote, wanted)
    base = door.commit("w.safetensors", b"old")
    other = door.keep(whole(b"v" * 10_000))
    door.refused(door.tell(other, base), "were announced")
    door.refused(door.tell(door.keep(whole(b"v" * 9_000)), base), "9000 bytes")
    door.refused(door.tell(door.keep(b"no delta at all"), base), "not a delta")
    door.refused(door.tell(door.keep(whole(wanted)), base, "other.safetensors"), "does not tell of a file")
    same = door.keep(delta_of(how=How.SAME, size=len(wanted)))
    door.refused(door.tell(same, base), "were announced")
    empty = remote.api.list_repo_commits(REPOSITORY)[-1].commit_id
    door.refused(door.tell(same, empty), "does not have")


@pytest.mark.parametrize(
    ("delta", "base"),
    [
        ("../refs.json", "main"),
        ("../../../../tokens.json", "main"),
        ("", "main"),
        ("0" * 64, "main"),
        (None, "../../refs.json"),
        (None, "nightly"),
        (None, "0" * 40),
        (None, ""),
    ],
)
def test_no_name_of_a_delta_or_base_leads_out_of_the_repository(remote: Remote, delta: str | None, base: str) -> None:
    wanted = b"w" * 10_000
    door = Door(remote, wanted)
    door.commit("w.safetensors", b"old")
    stored = door.keep(whole(wanted))
    door.refused(
        door.tell(stored if delta is None else delta, base), "upload it first" if delta is not None else "no commit"
    )


def test_a_delta_that_would_fill_memory_or_disk_is_refused_before_it_does(remote: Remote) -> None:
    door = Door(remote, b"", size=10_000)
    old = save({"w": np.zeros(1000, np.float32)})
    base = door.commit("w.safetensors", old)
    squeezing = zstandard.ZstdCompressor().compressobj(size=1 << 30)
    bomb = b"".join(squeezing.compress(bytes(1 << 20)) for _ in range(1 << 10)) + squeezing.flush()
    assert len(bomb) < 100_000
    told = delta_of(bomb, how=How.WHOLE, size=10_000, payload=len(bomb))
    door.refused(door.tell(door.keep(told), base), "10001 bytes")
    told = delta_of(bomb, how=How.TENSORS, size=10_000, payload=len(bomb))
    door.refused(door.tell(door.keep(told), base), "a head would open to 1073741824 bytes")
    head = zstandard.ZstdCompressor().compress(old[: -4 * 1000])
    told = delta_of(head, how=How.TENSORS, size=10_000, payload=len(head), blocks=((Encoding.FULL, 8),))
    door.refused(door.tell(door.keep(told), base), "its head tells of")
    door = Door(remote, b"", size=len(old))
    told = delta_of(
        head, bytes(99_999), how=How.TENSORS, size=len(old), payload=len(head), blocks=((Encoding.FULL, 99_999),)
    )
    door.refused(door.tell(door.keep(told), base), "is told with 99999")
    told = delta_of(head, bomb, how=How.TENSORS, size=len(old), payload=len(head), blocks=((Encoding.FULL, 2000),))
    door.refused(door.tell(door.keep(told), base), "1073741824 bytes")


def test_an_address_is_for_one_content_of_one_repository_and_only_who_may_commit_gets_one(remote: Remote) -> None:
    wanted = b"w" * 10_000
    door = Door(remote, wanted)
    delta, base = door.keep(whole(wanted)), door.commit("w.safetensors", b"old")
    told = {"delta": delta, "base": base, "name": "w.safetensors"}
    headers = {"Content-Type": TOLD}
    other = hashlib.sha256(b"other").hexdigest()
    for href in (
        door.href.replace(door.oid, other),
        door.href.replace("size=10000", "size=10001"),
        door.href.replace(REPOSITORY, "stovetop/desktop"),
        door.href.partition("&signature")[0] + "&signature=00",
    ):
        assert httpx.put(href, json=told, headers=headers).status_code == 403
    reader = TokenStore(remote.root / "tokens.json").mint("reader", [Scope.READ])
    asked = {"operation": "upload", "transfers": ["stovetop-delta"], "objects": []}
    batch = remote.proxy.url + BATCH
    assert httpx.post(batch, headers={"Authorization": f"Bearer {reader}"}, json=asked).status_code == 403
    assert httpx.post(batch, json=asked).status_code == 401
    assert httpx.put(door.href, content=b"{", headers=headers).status_code == 400
    assert httpx.put(door.href, content=b" " * 20_000, headers=headers).status_code == 413
    assert httpx.put(door.href, json=told, headers=headers).status_code == 200
