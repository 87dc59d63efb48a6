"""What a manifest may name, and what is read as one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publish import FileNotAllowed, SigningKey, Unreadable, decode_manifest
from publish.manifest import check_names
from tests.publish.test_signing import manifest


def test_what_from_pretrained_reads_is_allowed() -> None:
    check_names(
        [
            "config.json",
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "generation_config.json",
            "model_index.json",
            "scheduler/scheduler_config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "tokenizer/tokenizer.json",
            "merges.txt",
        ]
    )


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "training_args.bin",
        "model.pt",
        "model.pkl",
        "modeling_custom.py",
        "optimizer.safetensors",
        "optimizer_state.safetensors",
        "trainer_state.json",
        "manifest.json",
        "../config.json",
        "unet/../../config.json",
        "/etc/config.json",
        ".hidden/config.json",
        ".config.json",
        "a/b/c/config.json",
        "config.json\n",
        "config.json/",
        "unet\\config.json",
        "",
    ],
)
def test_everything_else_is_refused_by_name(name: str) -> None:
    with pytest.raises(FileNotAllowed):
        check_names(["config.json", name])


@given(
    st.text(alphabet=st.sampled_from("./\\\0\n ab_-:~é"), max_size=12),
    st.sampled_from(["config.json", "a.safetensors"]),
)
def test_no_allowed_name_leads_out_of_a_folder(prefix: str, last: str) -> None:
    try:
        check_names([prefix + last])
    except FileNotAllowed:
        return
    parts = (prefix + last).split("/")
    assert all(part and not part.startswith(".") and part.isprintable() for part in parts)
    assert len(parts) <= 3


@pytest.mark.parametrize("stored", [b"", b"{}", b"[]", b"null", b"{", b"\xff"])
def test_what_is_no_manifest_is_unreadable(stored: bytes) -> None:
    with pytest.raises(Unreadable, match="here: not a manifest"):
        decode_manifest(stored, "here")


def test_a_manifest_of_another_format_is_refused_by_name() -> None:
    with pytest.raises(Unreadable, match="format 2"):
        decode_manifest(manifest(format=2).encode(), "here")


@given(st.binary(max_size=200), st.integers(0, 400))
def test_damaged_manifests_are_unreadable_and_nothing_worse(noise: bytes, at: int) -> None:
    stored = manifest().encode()
    with contextlib.suppress(Unreadable):
        decode_manifest(stored[:at] + noise + stored[at + len(noise) :], "here")


def test_the_stored_form_is_read_back_as_it_was(tmp_path: object) -> None:
    signed = SigningKey(bytes(32)).sign(
        manifest(
            watermark={"live": {"samples/0": (12, 3)}},
            consumed={"format": 1, "sources": {"live": {"0": [[0, 0, 12, 3]]}}},
        )
    )
    again = decode_manifest(signed.encode(), "here")
    assert again == signed
    assert again.encode() == signed.encode()
    assert again.label == "000007"
