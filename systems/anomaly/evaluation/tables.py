"""An evaluation as Markdown tables."""

from collections.abc import Mapping
from typing import Any

from ....exporters.summaries.markdown import markdown_table
from .error_statistics import PERCENTILES

GROUPS = {
    "normal": "normal volumes",
    "abnormal": "abnormal volumes",
    "unlabelled": "volumes without a label",
    "inside_masks": "inside masks",
    "outside_masks": "abnormal volumes, outside masks",
}


def markdown_tables(result: Mapping[str, Any]) -> str:
    """What `evaluate` returned: a line on the set, figures of volumes, of voxels, statistics of the map's values, notes."""
    counts, synthetic = result["volumes"], "synthetic " if result["synthetic"] else ""
    unlabelled = counts["all"] - counts["normal"] - counts["abnormal"]
    smooth = f"smoothed by {result['smooth']:g} voxels" if result["smooth"] else "not smoothed"
    voxels = {result["method"]: result["voxels"]} if result["voxels"] else {}
    parts = [
        f"{counts['all']} {synthetic}volumes of {result['side']}³, {counts['normal']} normal, {counts['abnormal']} abnormal, "
        f"{unlabelled} without a label; method: {result['method']}."
        + (f" Thresholds: {result['calibration']}." if result["calibration"] else ""),
        _scores(_with_baselines(result["scores"] or {}, result["score_baselines"]), synthetic),
        _voxels(_with_baselines(voxels, result["voxel_baselines"]), f"{synthetic}voxels, maps {smooth}"),
        _statistics(result["error_statistics"], f"values of {synthetic}maps"),
        "\n".join(f"- {note}" for note in result["notes"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(scores: Mapping[str, Any], synthetic: str) -> str:
    keys = ("auprc", "threshold", "sensitivity", "specificity", "balanced_accuracy", "f1")
    rows = []
    for name, found in scores.items():
        low, high = found.get("auroc_interval", (None, None))
        interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
        cells = [_figure(found.get(key), "g" if key == "threshold" else "f") for key in keys]
        rows.append([name, f"{found['auroc']:.3f}{interval}", *cells, found.get("rule", "")])
    heading = ["AUROC (95 %)", "AUPRC", "threshold", "sensitivity", "specificity", "balanced accuracy", "F1", "rule"]
    return markdown_table([f"{synthetic}volumes: score", *heading], rows)


def _voxels(voxels: Mapping[str, Any], title: str) -> str:
    keys = ("auroc", "auprc", "mean_auroc", "mean_auprc", "dice", "mean_dice", "oracle_dice")
    rows = [[name, *(_figure(found.get(key)) for key in keys), found.get("rule", "")] for name, found in voxels.items()]
    heading = ["AUROC", "AUPRC", "AUROC, mean of abnormal volumes", "AUPRC, mean", "Dice", "Dice, mean"]
    return markdown_table([title, *heading, "oracle Dice", "Dice's threshold"], rows)


def _statistics(groups: Mapping[str, Any], title: str) -> str:
    keys = ("mean", "sd", "median", *(f"p{p}" for p in PERCENTILES))
    rows = [[GROUPS[name], found["voxels"], *(f"{found[key]:.4f}" for key in keys)] for name, found in groups.items()]
    return markdown_table([title, "voxels", "mean", "sd", "median", *(f"{p} %" for p in PERCENTILES)], rows)


def _with_baselines(found: Mapping[str, Any], baselines: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**found, **{f"baseline: {name}": values for name, values in (baselines or {}).items()}}


def _figure(value: float | None, kind: str = "f") -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if kind == "g" else f"{value:.3f}"
