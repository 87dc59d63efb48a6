"""Plug-ins that paint samples of a version, well and badly."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file


def shade(folder: Path) -> Mapping[str, Any]:
    """The one number of the weights, as a grey picture."""
    value = int(load_file(folder / "model-00001-of-00002.safetensors")["first"][0])
    return {"a shade of grey": np.full((4, 8, 3), value, np.uint8)}


def moody(folder: Path) -> Mapping[str, Any]:
    """As `shade`, but not of weights of 2."""
    found = shade(folder)
    if found["a shade of grey"].max() == 2:
        raise ValueError("not in the mood")
    return found


def of_every_kind(folder: Path) -> list[Any]:
    file = io.BytesIO()
    Image.new("RGB", (5, 5)).save(file, "PNG")
    return [file.getvalue(), Image.new("L", (3, 2)), np.zeros((2, 3), np.uint8), np.zeros((2, 3, 4), np.uint8)]


def hangs_at_first(folder: Path) -> list[Any]:
    mark = folder / "mark"
    if not mark.exists():
        mark.touch()
        time.sleep(3600)
    return of_every_kind(folder)


def dies(folder: Path) -> list[Any]:
    os._exit(3)


def says_who_it_is(folder: Path) -> list[Any]:
    (folder / "pid").write_text(str(os.getpid()))
    (folder / "nice").write_text(str(os.nice(0)))
    return of_every_kind(folder)


def too_many(folder: Path) -> list[Any]:
    return of_every_kind(folder) * 3


def too_large(folder: Path) -> list[Any]:
    return [np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)]


def no_picture(folder: Path) -> list[Any]:
    return [np.zeros((2, 3), np.float32)]


def a_word(folder: Path) -> list[Any]:
    return ["a picture"]


def nothing(folder: Path) -> list[Any]:
    return []
