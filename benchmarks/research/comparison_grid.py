"""A strip of pictures: methods below each other, cycles side by side, one enlarged detail of each."""

import numpy as np
from PIL import Image, ImageDraw

from ...exporters.summaries.figures import FAINT, INK, MARGIN, PAPER, STRIP, caption_font

PANEL = 224  # pixels of a panel's side, about
PART = 4  # a detail is so much smaller than the picture

Row = tuple[str, list[np.ndarray], list[float]]  # method; picture after each cycle, uint8 (H, W, 3); its PSNR in dB


def comparison_grid(original: np.ndarray, rows: list[Row], cycles: list[int]) -> Image.Image:
    """original: uint8 (H, W, 3). cycles: the numbers shown, from 1."""
    window = busiest(original, min(original.shape[:2]) // PART)
    zoom = max(1, round(PANEL / (window[0].stop - window[0].start)))
    panel = zoom * (window[0].stop - window[0].start)
    canvas = Image.new(
        "RGB",
        ((len(cycles) + 1) * (panel + MARGIN) + MARGIN, len(rows) * (panel + STRIP) + MARGIN),
        PAPER,
    )
    draw, font = ImageDraw.Draw(canvas), caption_font(13)
    for row, (method, pictures, quality) in enumerate(rows):
        top = row * (panel + STRIP)
        shown = [(original, "original", "")]
        shown += [(pictures[n - 1], f"{method}, cycle {n}", f"{quality[n - 1]:.2f} dB") for n in cycles]
        for column, (pixels, left, right) in enumerate(shown):
            x = MARGIN + column * (panel + MARGIN)
            draw.text((x, top + STRIP - 8), left, INK, font, anchor="ls")
            draw.text((x + panel, top + STRIP - 8), right, FAINT, font, anchor="rs")
            detail = Image.fromarray(np.ascontiguousarray(pixels[window]))
            canvas.paste(detail.resize((panel, panel), Image.Resampling.NEAREST), (x, top + STRIP))
    return canvas


def busiest(picture: np.ndarray, side: int) -> tuple[slice, slice]:
    """The square of `side` pixels with the most detail, by the energy of its differences, on a grid of a quarter side."""
    grey = picture.astype(np.float64).mean(2)
    energy = np.zeros_like(grey)
    energy[:, 1:] += np.diff(grey, axis=1) ** 2
    energy[1:] += np.diff(grey, axis=0) ** 2
    step = max(1, side // 4)
    places = [
        (energy[y : y + side, x : x + side].sum(), y, x)
        for y in range(0, grey.shape[0] - side + 1, step)
        for x in range(0, grey.shape[1] - side + 1, step)
    ]
    _, y, x = max(places, key=lambda place: place[0])
    return slice(y, y + side), slice(x, x + side)
