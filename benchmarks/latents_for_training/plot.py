"""Plot of a study: what trainings on the latents of each arm came to, every seed a point."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .arms import ARMS
from .summary import OUTCOMES


def study_plot(found: Mapping[str, Any], path: Path) -> None:
    """Draw one row of panels for each domain to `path`, a PNG, a panel for each of `OUTCOMES`. found: of `collect`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    domains = {name: domain for name, domain in found.items() if domain["arms"]}
    figure = Figure(figsize=(12, 0.6 + 3.0 * len(domains)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(domains), len(OUTCOMES), squeeze=False, sharey="row")
    for row, (name, domain) in zip(panels, domains.items(), strict=True):
        for axes, (key, label) in zip(row, OUTCOMES.items(), strict=True):
            _draw(axes, domain["arms"], key)
            axes.set_xlabel(label)
            axes.set_visible(key in next(iter(domain["arms"].values()))["summary"])
        row[0].set_title(name, fontsize=10, loc="left")
        floor = next(iter(domain["arms"].values()))["summary"]["samples.real_held_out"]["mean"]
        row[0].axvline(floor, color="grey", linewidth=1, linestyle="--")
        row[0].set_xlabel("Fréchet distance of samples (dashed: of real pictures)")
        row[0].set_yticks(range(len(arms := _shown(domain["arms"]))), list(arms))
        row[0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def _shown(arms: Mapping[str, Any]) -> dict[str, Any]:
    """All but the shuffled control, whose figures are far from the others'."""
    return {name: arm for name, arm in arms.items() if not name.endswith("_shuffled")}


def _draw(axes: Any, arms: Mapping[str, Any], key: str) -> None:
    for place, (name, arm) in enumerate(_shown(arms).items()):
        if key in arm["summary"]:
            colour = f"C{list(ARMS).index(name)}"  # the same in all domains
            values = [cell[key] for cell in arm["cells"].values()]
            axes.plot(values, [place] * len(values), "o", color=colour, markersize=5, alpha=0.6)
            axes.plot([arm["summary"][key]["mean"]], [place], "|", color=colour, markersize=16, markeredgewidth=2)
    axes.grid(True, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
