"""A grid of image details: one row per method, one column per cycle."""

import numpy as np
from PIL import Image, ImageDraw

from ...exporters.summaries.figures import FAINT, INK, MARGIN, PAPER, STRIP, caption_font

PANEL = 224  # Approximate side of a panel in pixels.
DETAIL_RATIO = 4  # Ratio of the image's shorter side to the side of the detail.

Row = tuple[str, list[np.ndarray], list[float]]  # Method; image after each cycle, uint8 (H, W, 3); its PSNR in dB.


def comparison_grid(original: np.ndarray, rows: list[Row], cycles: list[int]) -> Image.Image:
    """Return the grid. original: uint8 (H, W, 3). cycles: the numbers of the cycles shown, from 1."""
    window = most_detailed_square(original, min(original.shape[:2]) // DETAIL_RATIO)
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


def most_detailed_square(picture: np.ndarray, side: int) -> tuple[slice, slice]:
    """Return rows and columns of the square of `side` pixels with the most detail: the largest sum of squared
    differences between neighbours, among positions a quarter side apart.
    """
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
