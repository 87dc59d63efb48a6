"""Where tensors meet modules: any nn.Module, diffusers models and pipelines, transformers models."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from publish import LiveModel, WeightsMismatch, put
from publish.loading import Modules, Pretrained, header
from tests.publish.conftest import Follow, Kitchen
from tests.publish.nets import unet
from tests.publish.parts import ticket


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    size = {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 64, "n_positions": 16}
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0)).eval()


@torch.no_grad()
def shifted(model: nn.Module, by: float) -> nn.Module:
    twin = copy.deepcopy(model)
    for tensor in twin.parameters():
        tensor.add_(by)
    return twin


def same(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def paint(model: UNet2DModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.ones(1, 3, 8, 8), 3).sample


def write(model: nn.Module) -> Callable[[Path], object]:
    return lambda folder: model.save_pretrained(folder)


@pytest.mark.parametrize(("make", "kind"), [(unet, UNet2DModel), (gpt2, GPT2LMHeadModel)])
def test_a_version_loads_with_plain_from_pretrained_and_serves_bit_by_bit(
    kitchen: Kitchen, follow: Follow, make: Callable[[], nn.Module], kind: type, tmp_path: Path
) -> None:
    models = [shifted(make(), 0.1 * step) for step in range(5)]
    models[0].save_pretrained(tmp_path / "base")
    follower, live = follow(loader=Pretrained(kind), base=tmp_path / "base")
    for step, model in enumerate(models[1:], start=1):
        put(kitchen.outbox, write(model), ticket(step))
        assert kitchen.publisher.step() == 0.0
        folder = kitchen.root / "hub" / "versions" / f"{step:06d}"
        assert same(kind.from_pretrained(folder), model)
        follower.step()
        assert follower.status().error == ""
        with live.use() as served:
            assert served.version == step
            assert same(served.module, model)
            assert not served.module.training
            assert not any(tensor.requires_grad for tensor in served.module.parameters())


def test_a_pipeline_is_followed_with_all_its_parts(kitchen: Kitchen, follow: Follow) -> None:
    model = unet()
    follower, live = follow(loader=Pretrained(DDPMPipeline))
    for step in (1, 2, 3, 4):
        net = shifted(model, 0.1 * step)
        put(kitchen.outbox, write(DDPMPipeline(net, DDPMScheduler(num_train_timesteps=10))), ticket(step))
        kitchen.publisher.step()
        follower.step()
        assert follower.status().error == ""
        with live.use() as served:
            assert same(served.module.unet, net)
            assert served.module.scheduler.config.num_train_timesteps == 10
    folder = kitchen.root / "hub" / "versions" / "000004"
    assert isinstance(DDPMPipeline.from_pretrained(folder).unet, UNet2DModel)


def test_a_standing_module_is_refilled_and_keeps_its_tensors(tmp_path: Path) -> None:
    """Compiled graphs hold on to the addresses of the tensors that they were made with."""
    models = [shifted(unet(), 0.1 * step) for step in range(2)]
    for number, model in enumerate(models):
        model.save_pretrained(tmp_path / str(number))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    loader = Pretrained(UNet2DModel)
    first = loader.load(tmp_path / "0", None)
    addresses = [tensor.data_ptr() for tensor in first.parameters()]
    assert loader.load(tmp_path / "1", first) is first
    assert same(first, models[1])
    assert [tensor.data_ptr() for tensor in first.parameters()] == addresses
    assert {path: path.read_bytes() for path in files} == files, "modules must not write into mapped files"


def test_the_same_tensors_under_another_configuration_are_built_anew(tmp_path: Path) -> None:
    calm, wild = unet(), unet(act_fn="gelu")
    calm.save_pretrained(tmp_path / "calm")
    wild.save_pretrained(tmp_path / "wild")
    assert header(tmp_path / "calm") == header(tmp_path / "wild")
    loader = Pretrained(UNet2DModel)
    first = loader.load(tmp_path / "calm", None)
    second = loader.load(tmp_path / "wild", first)
    assert second is not first
    assert not torch.allclose(paint(calm), paint(wild), atol=1e-3)
    assert torch.allclose(paint(second), paint(wild), atol=1e-4)  # memory that is mapped is aligned otherwise
    assert torch.allclose(paint(first), paint(calm), atol=1e-4)


def test_another_scheduler_reaches_a_served_pipeline(tmp_path: Path) -> None:
    model = unet()
    for name, scheduler in (
        ("a", DDIMScheduler(prediction_type="epsilon")),
        ("b", DDIMScheduler(prediction_type="sample")),
    ):
        DDPMPipeline(model, scheduler).save_pretrained(tmp_path / name)
    loader = Pretrained(DDPMPipeline)
    first = loader.load(tmp_path / "a", None)
    assert loader.load(tmp_path / "b", first).scheduler.config.prediction_type == "sample"


class Plain(nn.Module):
    """A module of its own kind, with a buffer and two names for one tensor."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.outer.weight = self.inner.weight
        self.register_buffer("mean", torch.zeros(width))


def plain_folder(
    root: Path, name: str, change: Callable[[dict[str, torch.Tensor]], object] = lambda tensors: None
) -> Path:
    folder = root / name
    folder.mkdir()
    tensors = {key: tensor.clone() for key, tensor in Plain().state_dict().items() if key != "outer.weight"}
    for number, tensor in enumerate(tensors.values()):
        tensor.fill_(number + len(name))
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_any_module_is_filled_by_name_with_tied_weights_stored_once(tmp_path: Path) -> None:
    loader = Modules(Plain)
    module = loader.load(plain_folder(tmp_path, "a"), None)
    assert module.outer.weight is module.inner.weight
    assert float(module.inner.weight[0, 0]) == load_file(tmp_path / "a" / "model.safetensors")["inner.weight"][0, 0]
    assert loader.load(plain_folder(tmp_path, "bcd"), module) is module
    assert float(module.mean[0]) == load_file(tmp_path / "bcd" / "model.safetensors")["mean"][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("mean"), "'mean' is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "'extra' is unknown"),
        (lambda tensors: tensors.update(mean=torch.zeros(5)), r"'mean' is \(\(5,\), 'F32'\), not \(\(4,\), 'F32'\)"),
        (lambda tensors: tensors.update(mean=torch.zeros(4, dtype=torch.float16)), "'F16'"),
    ],
)
def test_other_names_shapes_or_dtypes_are_refused_before_a_module_is_touched(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], said: str
) -> None:
    loader = Modules(Plain)
    module = loader.load(plain_folder(tmp_path, "a"), None)
    before = copy.deepcopy(module)
    with pytest.raises(WeightsMismatch, match=said):
        loader.load(plain_folder(tmp_path, "bc", change), module)
    assert same(module, before)


def test_weights_that_do_not_fit_the_factory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="in the folder and"):
        Modules(lambda: Plain(width=8)).load(plain_folder(tmp_path, "a"), None)


def test_a_configuration_that_the_factory_cannot_follow_is_refused(tmp_path: Path) -> None:
    loader = Modules(Plain)
    for name, heads in (("a", 2), ("b", 4)):
        (plain_folder(tmp_path, name) / "config.json").write_text(json.dumps({"heads": heads}))
    loader.load(tmp_path / "a", None)
    with pytest.raises(WeightsMismatch, match="its configuration is not the served one"):
        loader.load(tmp_path / "b", None)


def test_a_folder_without_weights_or_with_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsMismatch, match=r"no \*\.safetensors"):
        header(tmp_path / "empty")
    folder = plain_folder(tmp_path, "twice")
    (folder / "copy.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(WeightsMismatch, match="in two files"):
        header(folder)


@pytest.mark.parametrize("kind", [UNet2DModel, DDPMPipeline])
def test_missing_weights_are_never_made_up_by_from_pretrained(tmp_path: Path, kind: type) -> None:
    folder = tmp_path / "model"
    whole = unet()
    (whole if kind is UNet2DModel else DDPMPipeline(whole, DDPMScheduler())).save_pretrained(folder)
    (file,) = folder.rglob("*.safetensors")
    tensors = load_file(file)
    tensors.pop("conv_in.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsMismatch, match="conv_in"):
        Pretrained(kind).load(folder, None)


def test_from_pretrained_runs_once_since_it_patches_what_requests_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        shifted(unet(), 0.1 * number).save_pretrained(tmp_path / str(number))
    calls: list[object] = []
    loads = UNet2DModel.from_pretrained
    monkeypatch.setattr(
        UNet2DModel, "from_pretrained", lambda *args, **more: (calls.append(args), loads(*args, **more))[1]
    )
    live = LiveModel(Pretrained(UNet2DModel), tmp_path / "0")
    modules = []
    for number in range(1, 6):
        live.swap(tmp_path / str(number), number, str(number))
        with live.use() as served:
            assert same(served.module, shifted(unet(), 0.1 * number))
            modules.append(served.module)
    assert len(calls) == 1
    assert len({id(module) for module in modules}) == 3, "three modules take turns"


class Wrapper(nn.Module):
    """Wraps a model as torch.compile does: other names, the same tensors; or, if told to, tensors of its own."""

    def __init__(self, inner: nn.Module, own: bool) -> None:
        super().__init__()
        self.wrapped = copy.deepcopy(inner) if own else inner


@pytest.mark.parametrize("own", [False, True])
def test_what_wraps_a_model_serves_the_new_weights_too(tmp_path: Path, own: bool) -> None:
    models = [shifted(unet(), 0.1 * number) for number in range(7)]
    for number, model in enumerate(models):
        model.save_pretrained(tmp_path / str(number))
    live = LiveModel(Pretrained(UNet2DModel, into=lambda net: Wrapper(net, own)), tmp_path / "0")
    swaps = []
    for number in range(1, 7):
        swaps.append(live.swap(tmp_path / str(number), number, str(number)))
        with live.use() as served:
            assert same(served.module.wrapped, models[number])
    assert any(swap.refilled for swap in swaps) is not own, "only shared tensors can be refilled"


def test_a_model_is_placed_as_the_app_says(tmp_path: Path) -> None:
    model = unet()
    model.save_pretrained(tmp_path / "a")
    shifted(model, 0.5).save_pretrained(tmp_path / "b")
    loader = Pretrained(UNet2DModel, into=lambda net: net.to(torch.bfloat16))
    live = LiveModel(loader, tmp_path / "a")
    for number, name in enumerate(["b", "a", "b", "a"]):
        live.swap(tmp_path / name, number, str(number))
        with live.use() as served:
            expected = UNet2DModel.from_pretrained(tmp_path / name).to(torch.bfloat16)
            assert same(served.module, expected)


class Large(nn.Module):
    """Tensors of several pieces, in every shape that they are cut in; one that does not lie in order, one without numbers,
    and a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Parameter(torch.zeros(700, 301))
        self.long = nn.Parameter(torch.zeros(300_001))
        self.wide = nn.Parameter(torch.zeros(2, 200_000))
        self.turned = nn.Parameter(torch.zeros(601, 400).t())
        self.register_buffer("none", torch.zeros(0, 3))
        self.register_buffer("scalar", torch.tensor(0.0))


def test_tensors_of_several_pieces_are_filled_whole(kitchen: Kitchen, follow: Follow) -> None:
    follower, live = follow(loader=Modules(Large))
    for step in range(1, 6):
        torch.manual_seed(step)
        state = {name: torch.randn(value.shape) for name, value in Large().state_dict().items()}
        put(kitchen.outbox, lambda folder, state=state: save_file(state, folder / "model.safetensors"), ticket(step))
        assert kitchen.publisher.step() == 0.0
        follower.step()
        assert follower.status().error == ""
        with live.use() as served:
            found = served.module.state_dict()
            assert all(torch.equal(found[name], value) for name, value in state.items())
