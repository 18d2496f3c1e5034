"""Plot of a study: the samples' Fréchet distance by arm, every seed a point, and its relation to what moved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def study_plot(found: Mapping[str, Any], path: Path) -> None:
    """Draw one row of two panels for each domain to `path`, a PNG. found: of `collect`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    domains = {name: domain for name, domain in found.items() if domain["arms"]}
    figure = Figure(figsize=(10, 0.6 + 3.0 * len(domains)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(domains), 2, squeeze=False, width_ratios=(3, 2))
    for (left, right), (name, domain) in zip(panels, domains.items(), strict=True):
        arms = {arm: row for arm, row in domain["arms"].items() if not arm.endswith("_shuffled")}
        for place, row in enumerate(arms.values()):
            values = [cell["samples.1.frechet_held_out"] for cell in row["cells"].values()]
            mean = row["summary"]["samples.1.frechet_held_out"]["mean"]
            left.plot(values, [place] * len(values), "o", color=f"C{place}", markersize=5, alpha=0.6)
            left.plot([mean], [place], "|", color=f"C{place}", markersize=16, markeredgewidth=2)
            right.plot([row["measures"]["interpolation_frechet"]], [mean], "o", color=f"C{place}")
        floor = next(iter(arms.values()))["summary"]["samples.real_held_out"]["mean"]
        left.axvline(floor, color="grey", linewidth=1, linestyle="--")
        left.set_yticks(range(len(arms)), list(arms))
        left.invert_yaxis()
        left.set_title(f"{name} (dashed: real beside real)", fontsize=10, loc="left")
        left.set_xlabel("Fréchet distance of samples to held-out pictures")
        right.set_xlabel("Fréchet distance of interpolations")
        right.set_ylabel("of samples")
        for axes in (left, right):
            axes.grid(True, alpha=0.25)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
