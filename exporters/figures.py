"""What people look at: side-by-side pictures with their figures, and the loss curves."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..engine.records import Record

AMPLIFY = 5  # of absolute errors, so that they can be seen
MARGIN, STRIP = 8, 26  # pixels between the panels, and above them for the captions
INK, FAINT, PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)


def difference(original: np.ndarray, image: np.ndarray) -> np.ndarray:
    """|image − original| × `AMPLIFY`, uint8 (H, W, 3), black where they agree."""
    error = np.abs(image.astype(np.int16) - original.astype(np.int16))
    return np.minimum(error * AMPLIFY, 255).astype(np.uint8)


def comparison(record: Record) -> Image.Image:
    """One row of five panels: original, encoder, optimised, and the two errors."""
    return _rows([record], panel=max(128, min(384, record.images["original"].shape[0])))


def overview(records: list[Record]) -> Image.Image:
    """A row of panels for each record."""
    return _rows(records, panel=192)


def _rows(records: list[Record], panel: int) -> Image.Image:
    width = 5 * panel + 6 * MARGIN
    height = len(records) * (panel + STRIP) + MARGIN
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    font = caption_font(13)
    for row, record in enumerate(records):
        top = row * (panel + STRIP)
        images, metrics = record.images, record.metrics
        errors = [difference(images["original"], images[key]) for key in ("initial", "optimized")]
        panels = [images["original"], images["initial"], images["optimized"], *errors]
        gain = metrics["psnr_improvement"]
        captions = [
            (_shorten(record.name, draw, font, panel), ""),
            ("encoder", f"{metrics['initial_psnr']:.2f} dB"),
            ("optimised", f"{metrics['final_psnr']:.2f} dB ({gain:+.2f})"),
            (f"encoder's error × {AMPLIFY}", ""),
            (f"optimised error × {AMPLIFY}", ""),
        ]
        for column, (pixels, (left, right)) in enumerate(zip(panels, captions, strict=True)):
            x = MARGIN + column * (panel + MARGIN)
            draw.text((x, top + STRIP - 8), left, INK, font, anchor="ls")
            draw.text((x + panel, top + STRIP - 8), right, FAINT, font, anchor="rs")
            picture = Image.fromarray(pixels)
            smooth = Image.Resampling.LANCZOS if max(picture.size) > panel else Image.Resampling.NEAREST
            canvas.paste(ImageOps.contain(picture, (panel, panel), smooth), (x, top + STRIP))
    return canvas


def caption_font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's DejaVu: Pillow's own font lacks most of unicode, the × among it."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _shorten(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, width: int) -> str:
    shown = text
    while text and draw.textlength(shown, font) > width:
        text = text[:-1]
        shown = text + "…"
    return shown


def loss_curves(curves: list[tuple[str, list[float]]], loss: str, path: Path) -> None:
    """How far the loss of each picture has fallen since its start, over the iterations, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    positive = all(value > 0 for _, losses in curves for value in losses)
    for name, losses in curves:
        # in decibels where the loss allows it: for mse that is the gain in PSNR, but for the clamping
        fall = 10 * np.log10(losses[0] / np.array(losses)) if positive else losses[0] - np.array(losses)
        axes.plot(fall, linewidth=1.2, alpha=0.8, label=name)
    axes.set_xlabel("iteration")
    axes.set_ylabel(f"fall of the loss ({loss}){' in dB' if positive else ''}")
    axes.grid(True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if 1 < len(curves) <= 12:
        axes.legend(fontsize=8, frameon=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)  # names in any script
        figure.savefig(path, dpi=120)
