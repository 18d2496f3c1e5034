"""The picture of a quality run: gain against work and against seconds, a row of panels per decoder."""

from pathlib import Path
from typing import Any

OURS = ("#1f77b4", "#2ca02c", "#d62728")
REFERENCE = ("#000000", "#7f7f7f")  # the original's settings
OTHERS = ("#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf")
SHOWN_RIVALS = 6  # beside the original's; more would be clutter


def quality_plot(results: dict[str, Any], path: Path) -> None:
    """results: decoder -> `rows` as `quality.measure` gives them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 0.9 + 4.2 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(results), 2, squeeze=False, sharey="row")
    for row, (decoder, result) in zip(panels, results.items(), strict=True):
        styles = line_styles(result["rows"])
        for axes, key, label in zip(row, ("work", "seconds"), ("work, in gradient iterations", "seconds"), strict=True):
            for method in sorted(result["rows"], key=lambda each: each["preset"]):
                if method["method"] in styles:
                    _draw(axes, method, key, styles[method["method"]])
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel(label)
            axes.set_ylim(bottom=0)
            axes.grid(True, alpha=0.25)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("gain over the encoder's, dB")
        row[0].set_title(decoder, fontsize=11, loc="left")
        row[0].legend(fontsize=9, frameon=False, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def line_styles(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is drawn, and how: the presets at their default precision, the original's settings, the best rivals."""
    ours = [row["method"] for row in rows if row["preset"] and not row["method"].endswith(", fp32")]
    reference = [row["method"] for row in rows if row["method"].startswith("original")]
    rivals = [row for row in rows if not row["preset"] and row["method"] not in reference]
    rivals = sorted(rivals, key=lambda row: -max(row["gain_db"]))[:SHOWN_RIVALS]
    found: dict[str, dict[str, Any]] = {}
    for names, colours, width in (
        (ours, OURS, 2.8), (reference, REFERENCE, 1.3), ([row["method"] for row in rivals], OTHERS, 1.1),
    ):  # fmt: skip
        found |= {name: {"color": colour, "linewidth": width} for name, colour in zip(names, colours, strict=False)}
    return found


def _draw(axes: Any, row: dict[str, Any], key: str, style: dict[str, Any]) -> None:
    points = [(x, y) for x, y in zip(row[key], row["gain_db"], strict=True) if x > 0]
    axes.plot(*zip(*points, strict=True), label=row["method"], solid_capstyle="round", **style)
    axes.plot(*points[-1], marker="o", markersize=3 + style["linewidth"], color=style["color"])
