"""Presentation of the latent report of a run: a table and a figure."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...engine.statistics.latent_verdict import against_encoder, verdict

ENCODER, OPTIMISED, CHANGE = "#9aa0a6", "#1f77b4", "#d62728"
FLOOR = 1e-4  # In dB: the lowest value of the logarithmic axis, shown for smaller and for negative losses.

# Label, keys of `initial` and `optimized`, factor, number of decimals.
ROWS: tuple[tuple[str, tuple[str, ...], float, int], ...] = (
    ("standard deviation", ("std",), 1, 3),
    ("excess kurtosis", ("kurtosis",), 1, 2),
    ("least value (σ)", ("min_sigma",), 1, 1),
    ("largest value (σ)", ("max_sigma",), 1, 1),
    ("beyond 4 σ (%)", ("beyond_4_sigma",), 100, 3),
    ("high frequencies (%)", ("high_frequency_share",), 100, 1),
    ("lost in fp16 (dB)", ("psnr_loss", "fp16"), 1, 3),
    ("lost in bf16 (dB)", ("psnr_loss", "bf16"), 1, 3),
    ("lost to noise 0.03 σ (dB)", ("psnr_loss", "noise_0.03"), 1, 2),
    ("lost to noise 0.1 σ (dB)", ("psnr_loss", "noise_0.1"), 1, 2),
    ("noise 0.1 σ, PSNR (dB)", ("noise_psnr", "noise_0.1"), 1, 2),
    ("half way, PSNR (dB)", ("interpolation", "decoded_psnr"), 1, 2),
)


def latent_rows(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return rows of label, the encoder's value and the optimised latents' value; "–" where there is none.

    Empty for an empty report.
    """
    if "initial" not in report:
        return []
    before, after = report["initial"], report["optimized"]
    return [
        (label, _cell(before, keys, factor, digits), _cell(after, keys, factor, digits))
        for label, keys, factor, digits in ROWS
    ]


def latent_distance(report: dict[str, Any]) -> str:
    """Return a sentence that states the distance between the optimised latents and the encoder's."""
    distance = report["distance"]
    return f"moved by {distance['mean']:.3f} σ on average, {distance['max']:.3f} σ at most"


def latent_verdict(report: dict[str, Any]) -> str:
    """Return the verdict on the latents as text. A report of an earlier version, which has none, is judged here."""
    found = report.get("verdict") or verdict(against_encoder(report))
    return str(found["text"])


def _cell(side: dict[str, Any], keys: tuple[str, ...], factor: float, digits: int) -> str:
    value: Any = side
    for key in keys:
        value = value.get(key) if value is not None else None
    return "–" if value is None else f"{round(value * factor, digits) + 0.0:.{digits}f}"  # Adding 0.0 avoids "-0.0".


def latent_figure(report: dict[str, Any], file: Path | BinaryIO) -> None:
    """Save a PNG with the standard deviation per channel, the power spectra, and the PSNR lost to rounding and noise.

    The report must not be empty.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    spread, spectra, losses = figure.subplots(1, 3)
    _draw_spread(spread, report)
    _draw_spectra(spectra, report)
    _draw_losses(losses, report)
    for axes in (spread, spectra, losses):
        axes.grid(True, axis="both" if axes is spectra else "y", alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def _draw_spread(axes: Any, report: dict[str, Any]) -> None:
    before, after = (np.array(report[side]["channel_std"]) for side in ("initial", "optimized"))
    ratio = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    axes.bar(np.arange(len(ratio)), ratio - 1, bottom=1, color=OPTIMISED, width=0.7)
    axes.axhline(1, color=ENCODER, linewidth=1.5)
    low, high = min(1.0, float(ratio.min())), max(1.0, float(ratio.max()))
    room = max(0.02, 0.1 * (high - low))
    axes.set_ylim(low - room, high + room)
    axes.set_xticks(np.arange(len(ratio)) if len(ratio) <= 16 else np.arange(0, len(ratio), len(ratio) // 8))
    axes.set_xlabel("channel")
    axes.set_title("Spread per channel, optimised / encoder", fontsize=11, loc="left")


def _draw_spectra(axes: Any, report: dict[str, Any]) -> None:
    for key, label, colour in (
        ("initial", "encoder", ENCODER),
        ("optimized", "optimised", OPTIMISED),
        ("change", "change", CHANGE),
    ):
        # null becomes NaN, which leaves a gap
        power = np.array(report[key]["spectrum"], np.float64) / report["sigma"] ** 2
        middles = (np.arange(len(power)) + 0.5) / (2 * len(power))
        shown = np.isfinite(power) & (power > 0)
        axes.plot(middles[shown], power[shown], marker="o", markersize=4, color=colour, label=label)
    axes.set_yscale("log")
    axes.set_xlim(0, 0.5)
    axes.set_xlabel("frequency, cycles per latent cell")
    axes.set_title("Power per frequency, in σ²", fontsize=11, loc="left")
    axes.legend(fontsize=9, frameon=False)


def _draw_losses(axes: Any, report: dict[str, Any]) -> None:
    axes.set_title("PSNR lost to rounding and to noise, dB", fontsize=11, loc="left")
    if "psnr_loss" not in report["optimized"]:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        return
    names = list(report["optimized"]["psnr_loss"])
    places = np.arange(len(names))
    tops = []
    for shift, key, label, colour in (
        (-0.2, "initial", "encoder", ENCODER),
        (0.2, "optimized", "optimised", OPTIMISED),
    ):
        values = [report[key]["psnr_loss"][name] for name in names]
        heights = [max(value, FLOOR) if value is not None else FLOOR for value in values]
        bars = axes.bar(places + shift, heights, 0.38, color=colour, label=label)
        texts = ["overflow" if value is None else _short(value) for value in values]
        axes.bar_label(bars, texts, fontsize=7, padding=1)
        tops += heights
    axes.set_yscale("log")
    axes.set_ylim(FLOOR / 2, 3 * max(tops))
    axes.set_xticks(places, [name.replace("noise_", "noise\n") + (" σ" if "noise" in name else "") for name in names])
    axes.legend(fontsize=9, frameon=False, loc="upper left")


def _short(value: float) -> str:
    return "0" if abs(value) < FLOOR else f"{value:.{2 if abs(value) >= 0.1 else 1}g}"
