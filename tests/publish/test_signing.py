"""Keys and signatures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from publish import (
    FileDigest,
    KeyFileInvalid,
    Manifest,
    Outbox,
    PublicKey,
    Publisher,
    SigningKey,
    TrustedKeys,
    Untrusted,
    older_keys,
    put,
)
from publish.manifest import Base, Tensor
from publish.pointer import unset
from tests.publish.conftest import Kitchen
from tests.publish.parts import ticket, weights_of

ROOT = Path(__file__).parents[2]


def manifest(**changes: object) -> Manifest:
    facts = {
        "format": 1,
        "version": 7,
        "created_at": 1.5,
        "run": "run",
        "branch": "main",
        "segment": "seg1",
        "step": 40,
        "ema": True,
        "parent": 6,
        "files": {"model.safetensors": FileDigest("ab" * 32, 12)},
    }
    return Manifest(**{**facts, **changes})


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "keys" / "publisher.key")


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "publisher.key"
    first = SigningKey.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey.load_or_create(path).public == first.public


def test_processes_that_make_the_key_at_once_end_with_one_key(tmp_path: Path) -> None:
    program = "import sys, publish, pathlib; print(publish.SigningKey.load_or_create(pathlib.Path(sys.argv[1])).public)"
    command = [sys.executable, "-c", program, str(tmp_path / "publisher.key")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}) for _ in range(4)
    ]
    said = {process.communicate()[0] for process in running}
    assert len(said) == 1
    assert said.pop().startswith("ed25519:")


def test_a_key_that_others_may_read_is_refused(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "publisher.key"
    path.chmod(0o640)
    with pytest.raises(KeyFileInvalid, match="chmod 600"):
        SigningKey.load_or_create(path)


def test_a_broken_key_file_is_refused_and_not_replaced(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "publisher.key"
    path.write_text("not a key")
    with pytest.raises(KeyFileInvalid, match="not a signing key"):
        SigningKey.load_or_create(path)
    assert path.read_text() == "not a key"


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:zz", "ed25519:" + "00" * 31, "rsa:" + "00" * 32, "00" * 32])
def test_a_public_key_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(KeyFileInvalid, match="64 hexadecimal digits"):
        PublicKey.parse(text)


def test_a_public_key_survives_being_written(key: SigningKey) -> None:
    assert PublicKey.parse(f" {key.public}\n") == key.public


def test_a_signed_manifest_verifies_also_after_it_was_stored(key: SigningKey) -> None:
    signed = key.sign(manifest(evaluation={"loss": 0.25, "nan": float("nan")}, weights={"live": 0.5}))
    trusted = TrustedKeys([str(key.public)])
    trusted.verify(signed)
    trusted.verify(msgspec.json.decode(signed.encode(), type=Manifest))


@pytest.mark.parametrize("field", [name for name in Manifest.__struct_fields__ if name != "key_id"])
def test_no_field_of_a_manifest_can_be_changed(key: SigningKey, field: str) -> None:
    signed = key.sign(manifest())
    other = manifest(
        format=2,
        version=8,
        created_at=2.5,
        run="r",
        branch="b",
        segment="s",
        step=41,
        ema=False,
        parent=None,
        files={"model.safetensors": FileDigest("ab" * 32, 13)},
        watermark={"live": {"samples/0": (1, 0)}},
        consumed={"format": 1},
        weights={"live": 1.0},
        newest_sample_time=1.0,
        evaluation={"loss": 0.0},
        command="c",
        rewinds=5,
        base=Base(6, "cd" * 32, FileDigest("ef" * 32, 3)),
        tensors={"model.safetensors": {"first": Tensor("F32", (3,), "ef" * 32)}},
        configuration="ef" * 32,
        signature="00" * 64,
    )
    changed = msgspec.structs.replace(signed, **{field: getattr(other, field)})
    assert changed != signed
    with pytest.raises(Untrusted):
        TrustedKeys([key.public]).verify(changed)


def test_no_field_of_a_pointer_can_be_changed(key: SigningKey) -> None:
    pointer = key.sign(unset("stable").moved(3, "ab", held=False, at=1.0, by="me", reason="why"))
    trusted = TrustedKeys([key.public])
    trusted.verify(pointer)
    others = {"version": 4, "generation": 2, "manifest_sha256": "cd", "lowered_at": 9, "held": True, "channel": "x"}
    for field, value in others.items():
        with pytest.raises(Untrusted):
            trusted.verify(msgspec.structs.replace(pointer, **{field: value}))


def test_an_unsigned_manifest_and_a_foreign_key_are_untrusted(key: SigningKey, tmp_path: Path) -> None:
    stranger = SigningKey.load_or_create(tmp_path / "stranger.key")
    trusted = TrustedKeys([key.public])
    with pytest.raises(Untrusted, match="'none'"):
        trusted.verify(manifest())
    with pytest.raises(Untrusted, match=stranger.public.key_id):
        trusted.verify(stranger.sign(manifest()))
    forged = msgspec.structs.replace(stranger.sign(manifest()), key_id=key.public.key_id)
    with pytest.raises(Untrusted):
        trusted.verify(forged)


def test_two_keys_are_trusted_while_one_is_replaced(key: SigningKey, tmp_path: Path) -> None:
    successor = SigningKey.load_or_create(tmp_path / "successor.key")
    trusted = TrustedKeys([key.public, successor.public])
    trusted.verify(key.sign(manifest()))
    trusted.verify(successor.sign(manifest()))


def test_trusting_nobody_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="none given"):
        TrustedKeys([])


# Rotation


def test_a_key_is_replaced_without_a_moment_in_which_followers_trust_none(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "publisher.key"
    old = SigningKey.load_or_create(path)
    coming = SigningKey.prepare_next(path)
    assert SigningKey.prepare_next(path).public == coming.public
    both = TrustedKeys([old.public, coming.public])
    both.verify(old.sign(manifest()))
    assert SigningKey.rotate(path).public == coming.public
    assert SigningKey.load_or_create(path).public == coming.public
    assert older_keys(path) == (old.public,)
    both.verify(SigningKey.load_or_create(path).sign(manifest()))
    with pytest.raises(KeyFileInvalid, match="no next key was prepared"):
        SigningKey.rotate(path)
    SigningKey.prepare_next(path)
    SigningKey.rotate(path)
    assert older_keys(path) == (old.public, coming.public)


def test_what_an_older_key_signed_can_still_be_promoted_and_numbers_go_on(kitchen: Kitchen) -> None:
    for step in (1, 2):
        kitchen.publish(step)
    path = kitchen.root / "keys" / "publisher.key"
    SigningKey.prepare_next(path)
    key = SigningKey.rotate(path)
    publisher = Publisher(kitchen.hub, Outbox(kitchen.outbox), key, older_keys=older_keys(path))
    put(kitchen.outbox, weights_of(3), ticket(3))
    assert publisher.step() == 0.0
    assert list(kitchen.hub.numbers()) == [1, 2, 3]
    moved = publisher.rollback_version("stable", 1, by="ada")
    TrustedKeys([key.public]).verify(moved.pointer)
    assert moved.pointer.version == 1


def test_the_verb_shows_prepares_and_rotates(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from stovetop.cli import app

    (tmp_path / "stovetop.toml").write_text("")
    config = ["--config", str(tmp_path / "stovetop.toml")]

    def said(*words: str) -> str:
        return CliRunner().invoke(app, ["key", *words, *config]).stdout

    shown = said().strip()
    assert shown.startswith("ed25519:")
    coming = said("next").strip()
    assert coming not in said("show")
    told = said("rotate")
    assert coming in told
    assert f"before: {shown}" in told
    assert "from its next start" in told
