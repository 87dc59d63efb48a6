"""The demo's samples of a version: a film strip for each task, which two versions can be told apart by."""

from __future__ import annotations

from pathlib import Path

import torch

from control.api.samples import MOST_SAMPLES, MOST_SAMPLES_BYTES
from control.png import png_size
from examples.desktop.films import FRAMES_SHOWN, films
from examples.desktop.model import BASE, load_base
from examples.desktop.screen import HEIGHT, WIDTH


def test_a_version_is_shown_by_a_film_strip_for_each_task(tmp_path: Path) -> None:
    strips = films(BASE)
    assert list(strips) == ["Opening the browser", "Creating a folder"]
    assert len(strips) <= MOST_SAMPLES
    assert sum(map(len, strips.values())) < MOST_SAMPLES_BYTES / 4
    for strip in strips.values():
        assert png_size(strip) == (2 * (FRAMES_SHOWN * (WIDTH + 2) - 2), 2 * HEIGHT)
    folder = tmp_path / "changed"
    model = load_base()
    with torch.no_grad():
        model.conv_out.weight.mul_(-1)
    model.save_pretrained(folder)
    changed = films(folder)
    assert changed != strips
    assert films(BASE) == strips  # the same trial each time
