"""The rate-distortion plot: our curves and the classic formats run here, and published curves beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....engine.errors import UsageError
from .bd_rate import Points, rate_at
from .evaluate import OURS, REFINED, points_of

MOST_BPP = 1.5  # of the plot
OUR_STYLES = {OURS: {"color": "#d62728", "marker": "o"}, REFINED: {"color": "#6a1b9a", "marker": "D"}}
CLASSIC_COLOURS = {"jpeg": "#1f77b4", "jpeg2000": "#2ca02c", "webp": "#ff7f0e"}  # measured here and published
OTHER_COLOURS = ("#7f7f7f", "#8c564b", "#bcbd22", "#17becf", "#e377c2", "#4b5fc4", "#111111")
# with the same colours again: points on, points off
DASHES: tuple[tuple[float, ...], ...] = ((5, 2), (2, 1.3), (7, 2, 1.5, 2))
SORTED_AT = 32.0  # dB: published curves are listed from the most bits to the fewest that they need for it


def rd_plot(result: Mapping[str, Any], published: Mapping[str, Points], path: Path) -> None:
    """Save a PNG of what `evaluate` returned, ours and classic curves, solid, and of published ones, dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    pictures = result["pictures"]
    measured, dashed = _draw_measured(axes, result["curves"]), _draw_published(axes, published)
    _limit(axes, [points_of(curve) for curve in result["curves"].values()] + list(published.values()))
    axes.set_xlabel("bits per pixel, of the whole file, mean over pictures")
    axes.set_ylabel("PSNR of RGB in dB, mean over pictures")
    axes.grid(True, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    place = f" of {pictures['folder']}" if pictures.get("folder") else ""
    axes.set_title(f"Rate and distortion, {pictures['count']} pictures{place}", fontsize=12, loc="left")
    (heading,) = axes.plot([], [], " ")  # a line of the legend that stands for no curve
    lines = [(heading, "measured here"), *((line, line.get_label()) for line in measured)]
    if dashed:
        lines += [(heading, ""), (heading, "published, 24 pictures of Kodak")]
        lines += [(line, line.get_label()) for line in dashed]
    handles, labels = zip(*lines, strict=True)
    legend = figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    for handle, text in zip(handles, legend.get_texts(), strict=True):
        if handle is heading:
            text.set_fontweight("bold")
    figure.savefig(path, dpi=110)


def _draw_measured(axes: Any, curves: Mapping[str, Any]) -> list[Any]:
    lines = []
    for name, curve in curves.items():
        style = {"color": CLASSIC_COLOURS.get(_key(name)), "marker": ".", "linewidth": 1.6, "zorder": 3}
        if curve["kind"] == "ours":
            style = {**OUR_STYLES[name], "linewidth": 2.6, "zorder": 4}
        lines += axes.plot(*zip(*sorted(points_of(curve)), strict=True), label=name, **style)
    return lines


def _draw_published(axes: Any, published: Mapping[str, Points]) -> list[Any]:
    names = sorted(published, key=lambda name: -_bits(published[name]))
    others = [name for name in names if _key(name) not in CLASSIC_COLOURS]
    lines = []
    for name in names:
        colour, dashes = CLASSIC_COLOURS.get(_key(name)), DASHES[0]
        if colour is None:
            turn, place = divmod(others.index(name), len(OTHER_COLOURS))
            colour, dashes = OTHER_COLOURS[place], DASHES[turn % len(DASHES)]
        curve = zip(*sorted(published[name]), strict=True)
        lines += axes.plot(*curve, label=name, color=colour, linestyle="--", dashes=dashes, linewidth=1.2, zorder=2)
    return lines


def _limit(axes: Any, curves: list[Points]) -> None:
    """The axes hold the points of all curves up to MOST_BPP."""
    seen = [point for points in curves for point in points if point[0] <= MOST_BPP]
    if seen:
        axes.set_xlim(0, MOST_BPP)
        axes.set_ylim(min(psnr for _, psnr in seen) - 0.5, max(psnr for _, psnr in seen) + 0.5)


def _bits(points: Points) -> float:
    try:
        return rate_at(points, SORTED_AT) or 0.0
    except UsageError:
        return 0.0


def _key(name: str) -> str:
    return name.lower().replace(" ", "")
