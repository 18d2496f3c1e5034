"""Plot of a quality run: gain over work and over seconds, one row of panels per decoder.

Over seconds a preset is one point, that of its whole call, since what a call costs is not spread evenly over its iterations.
"""

import statistics
from pathlib import Path
from typing import Any

PRESET_COLOURS = (
    "#d62728",
    "#2ca02c",
    "#1f77b4",
    "#17a2a2",
)  # From the longest run to the shortest, which is drawn on top.
ORIGINAL_COLOURS = ("#000000", "#8a8a8a")  # The original's settings.
CALLS_COLOUR = "#9ecae1"  # Of the line through the presets' whole calls.
# At most this many other methods are drawn, to keep the plot readable.
METHOD_COLOURS = ("#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#7f7f7f")


def quality_plot(results: dict[str, Any], path: Path) -> None:
    """Draw the plot to `path`. results: decoder -> dictionary with `rows`, as returned by `quality.measure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.0 + 3.8 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(results), 2, squeeze=False, sharey="row")
    styles = line_styles(results)
    for row, (decoder, result) in zip(panels, results.items(), strict=True):
        drawn = {method["method"]: method for method in result["rows"]}
        for axes, key, label in zip(row, ("work", "seconds"), ("work, in gradient iterations", "seconds"), strict=True):
            presets = [name for name in styles if drawn[name]["preset"]]
            ends = [(drawn[name]["curve"][key][-1], drawn[name]["curve"]["gain_db"][-1]) for name in presets]
            if key == "seconds" and ends:
                axes.plot(*zip(*sorted(ends), strict=True), color=CALLS_COLOUR, linewidth=2.0, zorder=3)
            for name, style in styles.items():
                _draw(axes, drawn[name], key, style)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel(label)
            axes.set_ylim(bottom=0)
            axes.grid(True, alpha=0.25)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("gain over the encoder's, dB")
        row[0].set_title(decoder, fontsize=11, loc="left")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    columns = min(4, -(-len(labels) // 2))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def line_styles(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what is drawn, in order: the best other methods, the original's settings, the presets at their default
    precision.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for result in results.values():
        for row in result["rows"]:
            rows.setdefault(row["method"], []).append(row)
    presets = [name for name, each in rows.items() if each[0]["preset"] and not name.endswith(", fp32")]
    presets.sort(key=lambda name: -max(row["final_work"] for row in rows[name]))
    reference = [name for name in rows if name.startswith("original")]
    methods = [name for name, each in rows.items() if not each[0]["preset"] and name not in reference]
    methods.sort(key=lambda name: -statistics.mean(max(row["gain_db"]) for row in rows[name]))
    found: dict[str, dict[str, Any]] = {}
    for names, colours, style in (
        (methods, METHOD_COLOURS, {"linewidth": 1.1}),
        (reference, ORIGINAL_COLOURS, {"linewidth": 1.4}),
        (presets, PRESET_COLOURS, {"linewidth": 2.8, "zorder": 3}),
    ):
        found |= {name: {"color": colour, **style} for name, colour in zip(names, colours, strict=False)}
    return found


def _draw(axes: Any, row: dict[str, Any], key: str, style: dict[str, Any]) -> None:
    from matplotlib.patheffects import withStroke

    curve = row["curve"]
    points = [(x, y) for x, y in zip(curve[key], curve["gain_db"], strict=True) if x > 0]
    if row["preset"] and key == "seconds":
        points = points[-1:]
    axes.plot(*zip(*points, strict=True), label=row["method"], solid_capstyle="round", **style)
    axes.plot(*points[-1], marker="o", markersize=3 + style["linewidth"], color=style["color"], zorder=4)
    if row["preset"]:
        place = {"xytext": (-5, 6), "textcoords": "offset points", "ha": "right", "fontsize": 9, "zorder": 5}
        halo = withStroke(linewidth=3, foreground="white")
        axes.annotate(row["method"], points[-1], color=style["color"], path_effects=[halo], **place)
