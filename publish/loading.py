"""Where tensors meet a module: the only file of this room that imports torch.

Weights are read from safetensors only. Names, shapes and dtypes of a folder are checked before any module is touched:
against the folder that was loaded first (in a server, the packaged base), and against the module itself.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

import msgspec
import torch
from safetensors import safe_open
from torch import nn

from publish import configuration
from publish.crew import PIECE, Pace, beside, breathe
from publish.errors import DigestMismatch, WeightsMismatch
from publish.manifest import MANIFEST, decode_manifest
from publish.tensors import Bytes, layout_of

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")
Shape = tuple[tuple[int, ...], str]
Header = Mapping[str, Shape]


def header(folder: Path) -> Header:
    """Names, shapes and dtypes of every tensor in the folder; a part's tensors are named `part/name`.

    Raises WeightsMismatch for a name that two files hold, or a folder without weights.
    """
    found: dict[str, Shape] = {}
    for file, part in _files(folder):
        breathe()
        for piece in layout_of(file).pieces:
            if part + piece.name in found:
                raise WeightsMismatch(f"{file}: {piece.name!r} is in two files; a version holds each tensor once")
            found[part + piece.name] = (piece.shape, piece.kind)
    breathe()
    if not found:
        raise WeightsMismatch(f"{folder}: no *.safetensors; a version holds its weights as safetensors")
    return found


def settings(folder: Path) -> Mapping[str, object]:
    """The folder's JSON configurations by file, without what the libraries write about themselves."""
    return configuration.settings({path.relative_to(folder).as_posix(): path for path in folder.rglob("*.json")})


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*.safetensors")):
        part = path.parent.relative_to(folder).as_posix()
        yield path, "" if part == "." else f"{part}/"


def compare(expected: Header, found: Header, what: str) -> None:
    """Raise WeightsMismatch, naming the first few differences."""
    wrong = [f"{name!r} is missing" for name in expected.keys() - found.keys()]
    wrong += [f"{name!r} is unknown" for name in found.keys() - expected.keys()]
    wrong += [
        f"{name!r} is {found[name]}, not {expected[name]}"
        for name in expected.keys() & found.keys()
        if expected[name] != found[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsMismatch(
            f"{what}: {'; '.join(sorted(wrong)[:3])}{more}; publish weights of the served architecture"
        )


class _Refiller:
    """Copies a folder's tensors into the standing tensors of modules, by name."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self._tensors: dict[str, torch.Tensor] = {}
        for part, module in parts.items():
            self._tensors.update({part + name: value for name, value in module.state_dict(keep_vars=True).items()})

    def mismatch(self, found: Header) -> str | None:
        """Why the folder does not fill every tensor exactly; None when it does. A tied tensor may be stored once."""
        filled = {self._tensors[name].data_ptr() for name in found.keys() & self._tensors.keys()}
        for name in found.keys() - self._tensors.keys():
            return f"{name!r} is in the folder and not in the module"
        for name, tensor in self._tensors.items():
            if name not in found:
                if tensor.numel() and tensor.data_ptr() not in filled:
                    return f"{name!r} is in the module and not in the folder"
            elif tuple(tensor.shape) != found[name][0]:
                return f"{name!r} is {found[name][0]} in the folder and {tuple(tensor.shape)} in the module"
        return None

    def take(self, folder: Path) -> None:
        """Fill and verify, behind the requests of this process."""
        with beside(lambda: (self.fill(folder), self.verify(folder))) as done:
            done()

    @torch.no_grad()
    def fill(self, folder: Path) -> None:
        """Copy every tensor; dtypes are cast to the module's, devices crossed."""
        for file, part in _files(folder):
            with safe_open(str(file), framework="pt") as opened:
                pace = Pace()
                for name in opened.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                    _copy(self._tensors[part + name], opened.get_tensor(name), pace)
        for device in {tensor.device for tensor in self._tensors.values() if tensor.is_cuda}:
            torch.cuda.synchronize(device)  # whoever serves next may use another stream

    @torch.no_grad()
    def verify(self, folder: Path) -> None:
        """Hash the tensors where they lie, on their device, against the folder's manifest. Raises DigestMismatch.

        Those that were cast to another dtype cannot be compared; a folder without a manifest, such as the packaged base,
        has nothing to be compared with.
        """
        try:
            manifest = decode_manifest((folder / MANIFEST).read_bytes(), str(folder))
        except FileNotFoundError:
            return
        breathe()
        if manifest.tensors is msgspec.UNSET:
            return
        wanted = []
        for file, named in manifest.tensors.items():
            part = file.rpartition("/")[0]
            for name, expected in named.items():
                tensor = self._tensors.get(f"{part}/{name}" if part else name)
                if tensor is not None and _KINDS.get(tensor.dtype) == expected.dtype:
                    wanted.append((name, tensor, expected.sha256))
        pace = Pace()
        for name, tensor, expected_digest in wanted:
            if _digest(tensor, pace) != expected_digest:
                raise DigestMismatch(
                    f"{name!r}: what lies on its device is not what was signed for; it is loaded again"
                )


_KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def _copy(target: torch.Tensor, stored: torch.Tensor, pace: Pace) -> None:
    """Fill a tensor from a mapped file, in pieces that no request feels."""
    if target.nbytes <= PIECE:  # a scalar among them, which has no rows
        target.copy_(stored)
        pace.did(target.nbytes)
    elif target.is_cpu and target.is_contiguous() and target.dtype == stored.dtype:
        into, out = _bytes(target), _bytes(stored)
        for at in range(0, len(into), PIECE):  # numpy lets go of the interpreter once a piece, torch at each call
            into[at : at + PIECE] = out[at : at + PIECE]
            pace.did(PIECE)
    else:
        rows = max(1, PIECE * len(target) // target.nbytes)
        for at in range(0, len(target), rows):
            target[at : at + rows].copy_(stored[at : at + rows])
            pace.did(PIECE)


def _bytes(tensor: torch.Tensor) -> Bytes:
    """The bytes of a contiguous tensor in memory, where they lie."""
    return cast(Bytes, tensor.detach().reshape(-1).view(torch.uint8).numpy())


def _digest(tensor: torch.Tensor, pace: Pace) -> str:
    """SHA-256 of the bytes, in pieces that no request feels."""
    held = _bytes(tensor.detach().contiguous().cpu()).data
    seen = hashlib.sha256()
    for at in range(0, len(held), PIECE):
        seen.update(held[at : at + PIECE])
        pace.did(min(PIECE, len(held) - at))
    return seen.hexdigest()


class _Same:
    """Holds every folder to the first one that was loaded."""

    def __init__(self) -> None:
        self._first: Header | None = None

    def check(self, folder: Path) -> Header:
        found = header(folder)
        if self._first is not None:
            compare(self._first, found, str(folder))
            breathe()
        return found

    def settle(self, found: Header) -> None:
        self._first = self._first or found


class Modules(Generic[M]):
    """Loads into modules that `factory` makes: any `nn.Module` whose `state_dict` is in the folder under the same
    names.

    The factory decides device and dtype; weights are cast to them. A folder whose configuration differs from the
    first one's is refused, since the factory could not follow it.
    """

    def __init__(self, factory: Callable[[], M]) -> None:
        self._factory = factory
        self._same = _Same()
        self._settings: Mapping[str, object] | None = None

    def load(self, folder: Path, spare: M | None) -> M:
        """`spare` refilled, or a new module filled, in evaluation mode and without gradients."""
        found = self._same.check(folder)
        configured = settings(folder)
        if self._settings is not None and configured != self._settings:
            raise WeightsMismatch(
                f"{folder}: its configuration is not the served one; restart with the new architecture"
            )
        breathe()
        module = self._factory().eval().requires_grad_(False) if spare is None else spare
        refiller = _Refiller({"": module})
        breathe()
        if reason := refiller.mismatch(found):
            raise WeightsMismatch(f"{folder}: {reason}; publish weights of the served architecture")
        refiller.take(folder)
        self._same.settle(found)
        self._settings = configured
        return module


@dataclass(frozen=True)
class _Made(Generic[T]):
    """How a served model was made: its configuration, and what `into` was given, where it returned another object.

    `refillable` says that those two share every tensor, so that filling one fills the other.
    """

    settings: Mapping[str, object]
    inner: T | None
    refillable: bool


class Pretrained(Generic[T]):
    """Loads with `from_pretrained`: a diffusers model or pipeline, a transformers model.

    `into(model)` places it (device, dtype, channels last, compile) and returns what is served. A folder whose
    configuration differs but whose tensors do not is loaded anew. Otherwise `from_pretrained` is called once: while it
    runs it patches global state (default dtype, `torch.nn.init`), which requests beside it would feel. Later modules
    are copies of the last one, refilled; so `into` must leave the values of weights alone.
    """

    def __init__(self, kind: type[T], into: Callable[[T], T] = lambda model: model, **options: Any) -> None:
        self._kind = kind
        self._into = into
        self._options = options
        self._same = _Same()
        self._made: WeakKeyDictionary[Any, _Made[T]] = WeakKeyDictionary()
        self._last: T | None = None

    def load(self, folder: Path, spare: T | None) -> T:
        """`spare` refilled where its configuration is the folder's, else a new one, strictly."""
        found = self._same.check(folder)
        configured = settings(folder)
        breathe()
        for standing in (spare, self._last):
            inner = None if standing is None else self._fits(standing, configured, found)
            if inner is None or standing is None:
                continue
            if standing is not spare:
                inner = copy.deepcopy(inner)
                standing = self._place(inner, configured)
            refiller = _Refiller(_parts(inner))
            refiller.take(folder)
            self._last = standing
            return standing
        model = self._place(self._load(folder, found), configured)
        self._same.settle(found)
        self._last = model
        return model

    def _fits(self, model: T, configured: Mapping[str, object], found: Header) -> T | None:
        """What to fill so that `model` has the folder's weights; None where it must be made anew."""
        made = self._made.get(model)
        if made is None or not made.refillable or made.settings != configured:
            return None
        inner = model if made.inner is None else made.inner
        return None if _Refiller(_parts(inner)).mismatch(found) else inner

    def _place(self, inner: T, configured: Mapping[str, object]) -> T:
        model = self._into(inner)
        shared = _addresses(inner) == _addresses(model)
        self._made[model] = _Made(configured, None if model is inner else inner, shared)
        return model

    def _load(self, folder: Path, found: Header) -> T:
        kind = cast(Any, self._kind)
        options = {"use_safetensors": True, "local_files_only": True, **self._options}
        if not issubclass(self._kind, nn.Module):
            model = kind.from_pretrained(folder, **options)
        else:
            model, info = kind.from_pretrained(folder, output_loading_info=True, **options)
            wrong = {key: sorted(map(str, value)) for key, value in info.items() if value}
            if wrong:
                raise WeightsMismatch(f"{folder}: {self._kind.__name__} does not take it as it is: {wrong}")
        parts = _parts(model)
        for module in parts.values():
            module.eval().requires_grad_(False)
        refiller = _Refiller(parts)
        if not issubclass(self._kind, nn.Module) and (reason := refiller.mismatch(found)):
            raise WeightsMismatch(f"{folder}: {reason}")
        refiller.verify(folder)
        return cast(T, model)


def _addresses(model: object) -> set[int]:
    """Where the tensors of a model lie, whatever wraps it."""
    return {tensor.data_ptr() for part in _parts(model).values() for tensor in part.state_dict(keep_vars=True).values()}


def _parts(model: object) -> Mapping[str, nn.Module]:
    """The modules of a model or pipeline, by the prefix of their tensors in `header`."""
    if isinstance(model, nn.Module):
        return {"": model}
    components: Mapping[str, object] = getattr(model, "components", {})
    return {f"{name}/": part for name, part in components.items() if isinstance(part, nn.Module)}
