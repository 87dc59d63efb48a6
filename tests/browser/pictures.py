"""Pictures as a version of a model would paint them."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw


def film(shade: int, frames: int = 9) -> bytes:
    """A strip of frames in which a window opens, of a shade that tells the version."""
    sheet = Image.new("RGB", (frames * 66 - 2, 48), "white")
    draw = ImageDraw.Draw(sheet)
    for frame in range(frames):
        left = frame * 66
        draw.rectangle((left, 0, left + 63, 47), fill=(shade, 60, 90))
        draw.rectangle((left + 10, 8, left + 10 + frame * 5, 8 + frame * 4), fill="orange")
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
