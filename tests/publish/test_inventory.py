"""Every tensor of a version has its digest, and how the delta tells it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers import GPT2LMHeadModel

from publish import DigestMismatch, Manifest, Tensor, decode_manifest, put
from publish.configuration import configuration_hash
from publish.loading import Modules, Pretrained
from tests.publish.conftest import Kitchen
from tests.publish.parts import ticket
from tests.publish.test_loading import gpt2, shifted, unet


def manifest_of(kitchen: Kitchen, version: int) -> Manifest:
    return decode_manifest(kitchen.hub.manifest(version), "")


def test_tensors_stand_in_the_manifest_with_dtype_shape_digest_and_the_way_of_the_delta(kitchen: Kitchen) -> None:
    numbers = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)

    def write(changed: np.ndarray, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"size": 64, "_diffusers_version": "1"}))
        save_file({"moved": changed, "frozen": numbers, "none": np.zeros((0, 3), np.int64)}, folder / "m.safetensors")

    put(kitchen.outbox, lambda folder: write(numbers, folder), ticket(1))
    kitchen.publisher.step()
    put(kitchen.outbox, lambda folder: write(np.nextafter(numbers, np.float32(9)), folder), ticket(2))
    kitchen.publisher.step()
    first, second = manifest_of(kitchen, 1), manifest_of(kitchen, 2)
    stored = load_file(kitchen.hub.path(2, "m.safetensors"))
    assert isinstance(second.tensors, dict)
    for name, tensor in second.tensors["m.safetensors"].items():
        assert tensor.sha256 == hashlib.sha256(stored[name].tobytes()).hexdigest()
        assert tensor.shape == stored[name].shape
    kinds = {name: (tensor.dtype, tensor.encoding) for name, tensor in second.tensors["m.safetensors"].items()}
    assert kinds == {"moved": ("F32", "ulp"), "frozen": ("F32", "same"), "none": ("I64", "full")}
    assert {tensor.encoding for tensor in first.tensors["m.safetensors"].values()} == {"full"}
    assert first.configuration == second.configuration


def test_the_configuration_s_hash_is_the_architecture_s(tmp_path: Path) -> None:
    def hashed(**values: object) -> str:
        (tmp_path / "config.json").write_text(json.dumps(values))
        return configuration_hash({"config.json": tmp_path / "config.json"})

    assert hashed(size=1, transformers_version="4") == hashed(transformers_version="5", size=1)
    assert hashed(size=1) != hashed(size=2)


@pytest.mark.parametrize("kind", ["unet", "gpt2"])
def test_what_from_pretrained_reads_is_what_was_published(kitchen: Kitchen, kind: str) -> None:
    model = {"unet": unet, "gpt2": gpt2}[kind]()
    put(kitchen.outbox, model.save_pretrained, ticket(1))
    kitchen.publisher.step()
    folder = kitchen.root / "hub" / "versions" / "000001"
    loaded = (type(model) if kind == "unet" else GPT2LMHeadModel).from_pretrained(folder)
    manifest = manifest_of(kitchen, 1)
    state = loaded.state_dict()
    told = {name: tensor for named in manifest.tensors.values() for name, tensor in named.items()}
    assert told
    for name, tensor in told.items():
        assert tensor.sha256 == hashlib.sha256(state[name].contiguous().numpy().tobytes()).hexdigest()


def test_what_lies_on_the_device_is_held_against_the_manifest(kitchen: Kitchen) -> None:
    """A copy that went wrong between the verified file and the module is not served."""
    put(kitchen.outbox, unet().save_pretrained, ticket(1))
    put_second = shifted(unet(), 0.1)
    kitchen.publisher.step()
    folder = kitchen.root / "hub" / "versions" / "000001"
    loader = Pretrained(type(unet()))
    loaded = loader.load(folder, None)
    put(kitchen.outbox, put_second.save_pretrained, ticket(2))
    kitchen.publisher.step()
    second = kitchen.root / "hub" / "versions" / "000002"
    stored = decode_manifest((second / "manifest.json").read_bytes(), "")
    name = "conv_in.bias"
    file = next(iter(stored.tensors))
    wrong = Tensor("F32", stored.tensors[file][name].shape, "0" * 64)
    lying = msgspec.structs.replace(stored, tensors={file: {**stored.tensors[file], name: wrong}})
    (second / "manifest.json").unlink()
    (second / "manifest.json").write_bytes(lying.encode())
    with pytest.raises(DigestMismatch, match=r"conv_in\.bias"):
        loader.load(second, loaded)
    with pytest.raises(DigestMismatch, match=r"conv_in\.bias"):
        Pretrained(type(unet())).load(second, None)


def test_a_module_in_another_dtype_and_a_base_without_a_manifest_are_taken_as_they_are(
    kitchen: Kitchen, tmp_path: Path
) -> None:
    def small() -> nn.Module:
        return nn.Linear(4, 4).to(torch.bfloat16)

    def write(folder: Path) -> None:
        save_file({"weight": np.ones((4, 4), np.float32), "bias": np.ones(4, np.float32)}, folder / "m.safetensors")

    put(kitchen.outbox, write, ticket(1))
    kitchen.publisher.step()
    loader = Modules(small)
    loader.load(kitchen.root / "hub" / "versions" / "000001", None)
    (tmp_path / "base").mkdir()
    write(tmp_path / "base")
    loader.load(tmp_path / "base", None)
