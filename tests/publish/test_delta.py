"""Deltas: exact to the bit for any numbers, and a follower that is better off without one takes the full version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from publish import Base, DirectoryHub, Manifest, Outbox, Publisher, SigningKey, Unreadable, decode_manifest, put
from publish.codec import BLOCK, Encoding, blocks, decode, encode
from publish.delta import apply_delta, write_delta
from publish.durable import digest_of
from tests.publish.conftest import Follow, Kitchen
from tests.publish.parts import Uniform, litter, served_value, ticket, weights_of

KINDS = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.uint8, np.int8, np.bool_]
WIDTHS = st.sampled_from([1, 2, 4, 8])
Tensors = dict[str, np.ndarray]


def roundtrip(new: bytes, old: bytes | None, width: int, floats: bool) -> Encoding:
    fresh = np.frombuffer(new, np.uint8)
    base = None if old is None else np.frombuffer(old, np.uint8)
    encoding, payload = encode(fresh, base, width, floats=floats)
    assert decode(encoding, payload, base, len(new), width).tobytes() == new
    return encoding


@given(st.binary(max_size=400), st.binary(max_size=400), WIDTHS, st.booleans(), st.booleans())
def test_any_bytes_come_out_as_they_went_in(one: bytes, other: bytes, width: int, floats: bool, based: bool) -> None:
    size = min(len(one), len(other)) // width * width
    roundtrip(one[:size], other[:size] if based else None, width, floats)


@given(st.sampled_from(["<f2", "<f4", "<f8"]), st.data())
def test_nan_payloads_zeros_of_both_signs_and_infinities_are_exact(kind: str, data: st.DataObject) -> None:
    width = np.dtype(kind).itemsize
    bits = 8 * width
    sign, exponent = 1 << (bits - 1), {2: 0x7C00, 4: 0x7F800000, 8: 0x7FF0 << 48}[width]
    special = [0, sign, exponent, sign | exponent, exponent | 1, exponent | (exponent >> 4), sign | exponent | 5, 1]
    words = st.lists(st.one_of(st.sampled_from(special), st.integers(0, (1 << bits) - 1)), min_size=1, max_size=40)
    new = np.array(data.draw(words), f"<u{width}")
    old = np.array([data.draw(st.sampled_from(special)) for _ in new], f"<u{width}")
    roundtrip(new.tobytes(), old.tobytes(), width, floats=True)


def test_each_way_is_taken_where_it_is_the_smallest() -> None:
    random = np.random.default_rng(0)
    old = random.normal(0, 0.02, 50_000).astype(np.float32)
    few = old.copy()
    few[::997] = 1.0
    closer = np.nextafter(np.nextafter(old, np.float32(9)), np.float32(9))
    flags = random.integers(0, 2**32, 50_000, np.uint32)
    cases = [
        (old, old, True, Encoding.SAME),
        (few, old, True, Encoding.GAPS),
        (closer, old, True, Encoding.ULP),
        (flags ^ np.uint32(1), flags, False, Encoding.XOR),
        (np.zeros_like(old), old, True, Encoding.FULL),
    ]
    for new, base, floats, expected in cases:
        assert roundtrip(new.tobytes(), base.tobytes(), 4, floats) is expected


def test_a_tensor_of_several_blocks_is_told_block_by_block() -> None:
    size = 2 * BLOCK + 5
    assert [end - begin for begin, end in blocks(10, 10 + 2 * size, 2)] == [2 * BLOCK, 2 * BLOCK, 10]
    old = np.zeros(size, np.uint16)
    new = old.copy()
    new[-1], new[BLOCK] = 1, 2
    for begin, end in blocks(0, 2 * size, 2):
        roundtrip(new.tobytes()[begin:end], old.tobytes()[begin:end], 2, floats=False)


@pytest.mark.parametrize("encoding", [Encoding.FULL, Encoding.GAPS, Encoding.XOR, Encoding.ULP])
@given(payload=st.binary(max_size=60))
@settings(max_examples=50)
def test_a_payload_of_anybody_is_refused_or_ends_within_its_block(encoding: Encoding, payload: bytes) -> None:
    old = np.arange(64, dtype=np.uint8)
    with suppress(Unreadable):
        assert decode(encoding, payload, old, 64, 4).size == 64


def test_a_payload_that_would_open_to_more_is_refused_before_it_does() -> None:
    bomb = encode(np.zeros(1 << 24, np.uint8), None, 1, floats=False)[1]
    assert len(bomb) < 2000
    with pytest.raises(Unreadable, match="16777216 bytes instead of 64"):
        decode(Encoding.FULL, bomb, None, 64, 1)


# Files and folders


def folder_of(root: Path, name: str, tensors: Tensors, config: Mapping[str, object] | None = None) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or {"size": 64}))
    save_file(tensors, folder / "model.safetensors")
    return folder


def rebuilt(root: Path, new: Path, old: Path) -> int:
    """The size of the delta between two folders, which leads from one to exactly the other."""
    files = {path.name: path for path in new.iterdir()}
    write_delta(root / "delta", files, {path.name: path for path in old.iterdir()})
    (root / "rebuilt").mkdir()
    made = dict(apply_delta(root / "delta", old, root / "rebuilt"))
    assert made == {name: digest_of(path) for name, path in files.items()}
    for name, path in files.items():
        assert (root / "rebuilt" / name).read_bytes() == path.read_bytes()
    size = (root / "delta").stat().st_size
    for path in (root / "rebuilt").iterdir():
        path.unlink()
    (root / "rebuilt").rmdir()
    (root / "delta").unlink()
    return size


def arrays(draw: st.DrawFn) -> np.ndarray:
    kind = np.dtype(draw(st.sampled_from(KINDS)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = int(np.prod(shape, dtype=int)) * kind.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=count, max_size=count)), np.uint8)
    return (raw & 1 if kind == np.bool_ else raw).view(kind).reshape(shape)


models = st.composite(lambda draw: {name: arrays(draw) for name in draw(st.sets(st.sampled_from("abcd"), min_size=1))})


@given(models(), models())
@settings(max_examples=60, deadline=None)
def test_any_model_leads_to_any_other(tmp_path_factory: pytest.TempPathFactory, old: Tensors, new: Tensors) -> None:
    """Tensors come, go, change kind and shape, and are empty."""
    root = tmp_path_factory.mktemp("pair")
    rebuilt(root, folder_of(root, "new", new), folder_of(root, "old", old))


def test_what_has_not_changed_costs_next_to_nothing(tmp_path: Path) -> None:
    tensors = {"w": np.random.default_rng(0).normal(size=100_000).astype(np.float32)}
    old = folder_of(tmp_path, "old", tensors)
    assert rebuilt(tmp_path, folder_of(tmp_path, "new", tensors), old) < 500
    moved = {"w": tensors["w"], "more": np.ones(3, np.float32)}
    assert rebuilt(tmp_path, folder_of(tmp_path, "grown", moved, {"size": 65}), old) < 1000


def test_a_file_that_is_no_safetensors_file_is_told_whole(tmp_path: Path) -> None:
    old = folder_of(tmp_path, "old", {"w": np.ones(9, np.float32)})
    new = folder_of(tmp_path, "new", {"w": np.ones(9, np.float32)})
    odd = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":["0","4"]}}'
    for stored in (
        b"",
        b"\xff" * 40,
        len(odd).to_bytes(8, "little") + odd + b"1234",
        (new / "model.safetensors").read_bytes() + b"more",
    ):
        (new / "model.safetensors").write_bytes(stored)
        rebuilt(tmp_path, new, old)


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_a_damaged_delta_is_refused_or_leads_to_digests_that_nobody_signed(tmp_path: Path, place: int) -> None:
    random = np.random.default_rng(0)
    old = folder_of(tmp_path, "old", {"w": random.normal(size=500).astype(np.float32)})
    new = folder_of(tmp_path, "new", {"w": random.normal(size=500).astype(np.float32)}, {"size": 1})
    files = {path.name: path for path in new.iterdir()}
    write_delta(tmp_path / "delta", files, {path.name: path for path in old.iterdir()})
    whole = (tmp_path / "delta").read_bytes()
    at = len(whole) * place // 100
    (tmp_path / "delta").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    (tmp_path / "made").mkdir()
    try:
        made = dict(apply_delta(tmp_path / "delta", old, tmp_path / "made"))
    except (Unreadable, ValueError, OSError):
        return
    assert made != {name: digest_of(path) for name, path in files.items()}


def test_a_chain_of_a_thousand_deltas_is_the_full_weights_at_every_step(tmp_path: Path) -> None:
    """Averages in half precision beside raw ones in full, as training moves them; each step from what was rebuilt."""
    random = np.random.default_rng(0)
    master = random.normal(0, 0.02, 3000)
    average = master.copy()
    names = ("config.json", "model.safetensors")
    standing = folder_of(tmp_path, "v0", {"raw": master.astype(np.float32), "ema": average.astype(np.float16)})
    for step in range(1, 1001):
        master += random.normal(0, 1e-5, master.size)
        average += 0.01 * (master - average)
        tensors = {"raw": master.astype(np.float32), "ema": average.astype(np.float16)}
        if step % 100 == 0:
            tensors["raw"][step % 7 :: 500] = np.nan if step % 200 else -0.0
        if step % 250 == 0:
            tensors[f"new{step}"] = np.empty((0, step), np.float32)
        new = folder_of(tmp_path, f"v{step}", tensors)
        made = tmp_path / f"made{step}"
        made.mkdir()
        write_delta(tmp_path / "delta", {n: new / n for n in names}, {n: standing / n for n in names})
        digests = dict(apply_delta(tmp_path / "delta", standing, made))
        assert digests == {name: digest_of(new / name) for name in names}
        assert (made / "model.safetensors").read_bytes() == (new / "model.safetensors").read_bytes(), step
        (tmp_path / "delta").unlink()
        standing = made
    assert load_file(standing / "model.safetensors")["ema"].dtype == np.float16


# From the publisher to the follower


def based(kitchen: Kitchen, number: int) -> Manifest:
    return decode_manifest(kitchen.hub.manifest(number), str(number))


def spread(value: float) -> object:
    """A model whose numbers are its step and noise that never changes, so that a delta pays."""

    def write(folder: Path) -> None:
        noise = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
        (folder / "config.json").write_text("{}")
        save_file({"first": np.full(64, value, np.float32), "last": noise}, folder / "model.safetensors")

    return write


class First:
    """A loader for `spread`."""

    def load(self, folder: Path, spare: object) -> Tensors:
        value = load_file(folder / "model.safetensors")["first"]
        return {"first": value, "last": value}


def publish(kitchen: Kitchen, step: int, run: str = "run") -> None:
    put(kitchen.outbox, spread(step), ticket(step, run=run))
    assert kitchen.publisher.step() == 0.0


def test_a_follower_rebuilds_each_version_from_the_one_before(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow(loader=First())
    received = []
    for step in range(1, 7):
        publish(kitchen, step)
        follower.step()
        assert (served_value(live), follower.status().error) == (step, "")
        received.append(follower.status().received_bytes)
    assert follower.status().rebuilt == 5
    assert received[-1] - received[0] < 5 * 2000 < received[0]
    assert [based(kitchen, number).base.version for number in range(2, 7)] == [1, 2, 3, 4, 5]
    assert isinstance(based(kitchen, 1).base, msgspec.UnsetType)
    assert not litter(kitchen.root)


def test_a_follower_that_slept_catches_up_along_the_chain(kitchen: Kitchen, follow: Follow) -> None:
    kitchen.publisher._keep = 20
    follower, live = follow(loader=First())
    publish(kitchen, 1)
    follower.step()
    for step in range(2, 12):
        publish(kitchen, step)
    before = follower.status().received_bytes
    follower.step()
    assert (served_value(live), follower.status().rebuilt, follower.status().error) == (11, 1, "")
    assert follower.status().received_bytes - before < 10 * 2000


def test_a_chain_that_is_too_long_or_was_dropped_gives_way_to_the_full_version(
    kitchen: Kitchen, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publish.chain.LONGEST", 3)
    follower, live = follow(loader=First())
    for at, gap in ((1, 1), (5, 4), (8, 3)):
        for step in range(at - gap + 1, at + 1):
            publish(kitchen, step)
        follower.step()
        assert (served_value(live), follower.status().error) == (at, "")
    assert follower.status().rebuilt == 0, "after four steps it is too long; three back its first delta is retired"
    assert sorted(path.name for path in (kitchen.root / "hub" / "deltas").iterdir()) == ["000007", "000008"]


def test_a_chain_that_costs_more_than_the_full_version_is_not_taken(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow()
    for step in (1, 2, 3, 4):
        put(kitchen.outbox, weights_of(step), ticket(step))  # so small that any two deltas are larger
        kitchen.publisher.step()
        if step in (1, 4):
            follower.step()
    assert (served_value(live), follower.status().rebuilt) == (4, 0)


@pytest.mark.parametrize("fault", ["flipped", "short", "missing", "empty"])
def test_a_delta_that_is_not_as_signed_gives_way_to_the_full_version(
    kitchen: Kitchen, follow: Follow, fault: str
) -> None:
    follower, live = follow(loader=First())
    publish(kitchen, 1)
    follower.step()
    publish(kitchen, 2)
    path = kitchen.root / "hub" / "deltas" / "000002"
    whole = path.read_bytes()
    path.unlink()
    if fault != "missing":
        path.write_bytes(
            {"flipped": whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], "short": whole[:-1]}.get(fault, b"")
        )
    follower.step()
    assert (served_value(live), follower.status().error, follower.status().rebuilt) == (2, "", 0)
    assert not litter(kitchen.root / "cache")


def test_a_base_that_rotted_in_the_cache_is_never_built_upon(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow(loader=First())
    publish(kitchen, 1)
    follower.step()
    (cached,) = (kitchen.root / "cache" / "versions").iterdir()
    path = cached / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"~")
    publish(kitchen, 2)
    follower.step()
    assert (served_value(live), follower.status().rebuilt) == (2, 0)


def test_the_base_is_the_version_that_was_committed_last_whatever_failed_between(
    kitchen: Kitchen, follow: Follow
) -> None:
    publish(kitchen, 1)
    (kitchen.root / "hub").rename(kitchen.root / "away")
    put(kitchen.outbox, spread(2), ticket(2))
    assert kitchen.publisher.step() > 0
    (kitchen.root / "away").rename(kitchen.root / "hub")
    follower, live = follow(loader=First())
    follower.step()
    kitchen.publisher._retry_at = 0.0
    publish(kitchen, 3)
    assert based(kitchen, 2).base.version == 1
    follower.step()
    assert (served_value(live), follower.status().rebuilt) == (3, 1)


def test_a_version_after_another_publisher_s_has_no_delta(kitchen: Kitchen) -> None:
    publish(kitchen, 1)
    other = Publisher(kitchen.hub, Outbox(kitchen.root / "other"), kitchen.key)
    put(kitchen.root / "other", spread(7), ticket(7, run="other"))
    with Outbox(kitchen.root / "other").served():
        assert other.step() == 0.0
    publish(kitchen, 2)
    publish(kitchen, 3)
    assert [isinstance(based(kitchen, number).base, Base) for number in (1, 2, 3, 4)] == [False, False, False, True]


def test_a_publisher_that_starts_again_goes_on_with_the_chain(kitchen: Kitchen) -> None:
    publish(kitchen, 1)
    again = Publisher(DirectoryHub(kitchen.root / "hub"), Outbox(kitchen.outbox), kitchen.key)
    put(kitchen.outbox, spread(2), ticket(2))
    assert again.step() == 0.0
    assert based(kitchen, 2).base.version == 1


def test_a_manifest_from_before_there_were_deltas_still_verifies() -> None:
    key = SigningKey(bytes(range(32)))
    manifest = Manifest(1, 1, 0.0, "run", "main", "seg1", 1, True, None, {})
    assert b'"base"' not in key.sign(manifest).encode()


def test_uniform_versions_stay_whole(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow(loader=Uniform())
    for step in (1, 2, 3):
        kitchen.publish(step)
        follower.step()
        assert served_value(live) == step
