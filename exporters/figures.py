"""What people look at: side-by-side pictures with their figures, and the loss curves."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
    font = ImageFont.load_default(size=13)
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
            (f"error ×{AMPLIFY}", "encoder"),
            (f"error ×{AMPLIFY}", "optimised"),
        ]
        for column, (pixels, (left, right)) in enumerate(zip(panels, captions, strict=True)):
            x = MARGIN + column * (panel + MARGIN)
            draw.text((x, top + STRIP - 8), left, INK, font, anchor="ls")
            draw.text((x + panel, top + STRIP - 8), right, FAINT, font, anchor="rs")
            picture = Image.fromarray(pixels)
            picture.thumbnail((panel, panel), Image.Resampling.LANCZOS)
            canvas.paste(picture, (x, top + STRIP))
    return canvas


def _shorten(
    text: str, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> str:
    shown = text
    while text and draw.textlength(shown, font) > width:
        text = text[:-1]
        shown = text + "…"
    return shown


def loss_curves(curves: list[tuple[str, list[float]]], loss: str, path: Path) -> None:
    """The loss of each picture relative to its start, over the iterations, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, losses in curves:
        start = losses[0] if losses and losses[0] else 1.0
        axes.plot([value / start for value in losses], linewidth=1.2, alpha=0.8, label=name)
    axes.set_xlabel("iteration")
    positive = all(value > 0 for _, losses in curves for value in losses)
    if positive:
        axes.set_yscale("log")
    axes.set_ylabel(f"loss ({loss}) relative to the encoder's latent")
    axes.grid(True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if 1 < len(curves) <= 12:
        axes.legend(fontsize=8, frameon=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)  # names in any script
        figure.savefig(path, dpi=120)
