"""Figures for people: side-by-side images with captions, loss curves, and PSNR histograms."""

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ...engine.records import Record
from .latents import ENCODER, OPTIMISED

AMPLIFY = 5  # Factor by which absolute errors are amplified to make them visible.
MARGIN, STRIP = 8, 26  # In pixels: the gap between panels, and the height of the caption above them.
INK, FAINT, PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)


def difference(original: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return |image − original| × `AMPLIFY`, uint8 (H, W, 3), black where the images agree."""
    error = np.abs(image.astype(np.int16) - original.astype(np.int16))
    return np.minimum(error * AMPLIFY, 255).astype(np.uint8)


def comparison(record: Record) -> Image.Image:
    """Return one row of five panels: original, encoder's reconstruction, optimised reconstruction, and the two errors."""
    return _rows([record], panel=max(128, min(384, record.images["original"].shape[0])))


def overview(records: list[Record]) -> Image.Image:
    """Return one row of panels for each record."""
    return _rows(records, panel=192)


def _rows(records: list[Record], panel: int) -> Image.Image:
    width = 5 * panel + 6 * MARGIN
    # a picture wider than high leaves no empty space below it
    heights = [
        round(panel * min(1.0, rows / columns)) for rows, columns, _ in (r.images["original"].shape for r in records)
    ]
    height = sum(heights) + len(records) * STRIP + MARGIN
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    font = caption_font(13)
    for row, record in enumerate(records):
        top = sum(heights[:row]) + row * STRIP
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
    """Return matplotlib's DejaVu: Pillow's own font lacks most of Unicode, including ×."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _shorten(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, width: int) -> str:
    shown = text
    while text and draw.textlength(shown, font) > width:
        text = text[:-1]
        shown = text + "…"
    return shown


def loss_curves(curves: list[tuple[str, list[float]]], loss: str, path: Path) -> None:
    """Save a PNG with the decrease of each image's loss since its start, over the iterations."""
    figure, axes = _figure(8, 5)
    falls, unit = _falls([np.array(losses) for _, losses in curves])
    for (name, _), fall in zip(curves, falls, strict=True):
        axes.plot(fall, linewidth=1.2, alpha=0.8, label=name)
    axes.set_xlabel("iteration")
    axes.set_ylabel(f"fall of the loss ({loss}){unit}")
    if 1 < len(curves) <= 12:
        axes.legend(fontsize=8, frameon=False)
    with warnings.catch_warnings():
        # Image names may be in any script.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(path, dpi=120)


def fall_figure(losses: list[np.ndarray], loss: str, file: Path | BinaryIO) -> None:
    """Save a PNG with median and quantiles of the decrease of many images' losses, each (T,) with its own T.

    A curve that has ended is continued with its last value.
    """
    figure, axes = _figure(6.5, 4)
    falls, unit = _falls(losses)
    table = np.array([np.pad(fall, (0, max(map(len, falls)) - len(fall)), mode="edge") for fall in falls])
    for label, low, high, alpha in (("all", 0, 100, 0.12), ("10 to 90 %", 10, 90, 0.3)):
        edges = np.percentile(table, (low, high), axis=0)
        axes.fill_between(np.arange(table.shape[1]), *edges, color=OPTIMISED, alpha=alpha, linewidth=0, label=label)
    axes.plot(np.median(table, axis=0), color=OPTIMISED, label="median")
    axes.set_xlabel("iteration")
    axes.set_title(f"Fall of the loss ({loss}) since the first iteration{unit}", fontsize=11, loc="left")
    axes.legend(fontsize=9, frameon=False, loc="lower right")
    figure.savefig(file, dpi=120)


def psnr_figure(initial: np.ndarray, final: np.ndarray, file: Path | BinaryIO) -> None:
    """Save a PNG with histograms of the PSNR (N,) of the encoder's latents and of the optimised ones."""
    figure, axes = _figure(6.5, 4)
    bins = np.histogram_bin_edges(np.concatenate([initial, final]), bins=min(40, max(8, len(initial) // 4)))
    for values, colour, label in ((initial, ENCODER, "encoder"), (final, OPTIMISED, "optimised")):
        axes.hist(values, bins, color=colour, alpha=0.65, label=f"{label}, {values.mean():.2f} dB on average")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("PSNR, dB")
    axes.set_title("Pictures", fontsize=11, loc="left")
    axes.legend(fontsize=9, frameon=False)
    figure.savefig(file, dpi=120)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(True, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _falls(losses: list[np.ndarray]) -> tuple[list[np.ndarray], str]:
    """Return the decrease of each loss curve since its start, and its unit: dB where all losses allow it.

    For mse that is the gain in PSNR, apart from the clamping of the image.
    """
    if all((values > 0).all() for values in losses):
        return [10 * np.log10(values[0] / values) for values in losses], " in dB"
    return [values[0] - values for values in losses], ""
