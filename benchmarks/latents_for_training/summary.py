"""All finished cells of a study as one result: means over seeds, differences to the encoder's latents, correlations over arms."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...exporters.summaries.markdown import markdown_table
from ..results import spread, spread_text
from .arms import Arm, Domain

FIRST = "initial"
OUTCOMES = {  # of a training -> its label; users are recognised where models are told them
    "samples.1.frechet_held_out": "Fréchet distance of samples",
    "samples.1.accuracy": "user accuracy",
    "restored.mean": "restored from noise, dB",
}
MEASURES = ("psnr", "ssim", "distance", "high_frequencies", "noise_loss", "interpolation_frechet", "decoded_frechet")


def collect(domains: Sequence[Domain], arms: Sequence[Arm], seeds: int) -> dict[str, Any]:
    """By domain: the classifier, the arms with their measures and cells, the correlations. Cells that are not there are left out."""
    found = {}
    for domain in domains:
        rows = {}
        for arm in arms:
            paths = {seed: domain.cell(arm, seed) for seed in range(1, seeds + 1)}
            cells = {str(seed): flatten(_read(path)) for seed, path in paths.items() if path.is_file()}
            if cells and domain.measured(arm).is_file():
                rows[arm.name] = {"measures": _read(domain.measured(arm)), "cells": cells}
        for row in rows.values():
            row["summary"] = _summary(row["cells"], rows.get(FIRST, {}).get("cells", {}))
        found[domain.name] = {
            "classifier": _read(domain.source.classifier) if domain.source.classifier.is_file() else None,
            "arms": rows,
            "correlations": correlations(rows),
        }
    return found


def flatten(record: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Numbers of nested records, by names joined with dots."""
    found: dict[str, float] = {}
    for name, value in record.items():
        found |= flatten(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: float(value)}
    return found


def _summary(cells: Mapping[str, Mapping[str, float]], first: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Of each figure its spread over seeds, and that of its difference to FIRST's of the same seed."""
    found: dict[str, Any] = {}
    for key in next(iter(cells.values())):
        found[key] = _counted([cell[key] for cell in cells.values()])
        differences = [cell[key] - first[seed][key] for seed, cell in cells.items() if key in first.get(seed, {})]
        if differences:
            found[key]["difference"] = _counted(differences)
    return found


def _counted(values: Sequence[float]) -> dict[str, float]:
    return spread(values) | {"count": len(values)}


def correlations(rows: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Spearman's, over the arms but the shuffled control, of each of MEASURES with the mean of each of OUTCOMES that was
    measured; None where all values are equal or there are fewer than 3 arms."""
    from scipy.stats import spearmanr

    arms = [row for name, row in rows.items() if not name.endswith("_shuffled")]
    found: dict[str, dict[str, float | None]] = {}
    for key in OUTCOMES:
        target = [row["summary"][key]["mean"] for row in arms if key in row["summary"]]
        if len(target) < len(arms) or not target:
            continue
        found[key] = {}
        for name in MEASURES:
            values = [row["measures"][name] for row in arms]
            known = len(arms) > 2 and len(set(values)) > 1 and len(set(target)) > 1
            found[key][name] = float(spearmanr(values, target).statistic) if known else None
    return found


def tables(found: Mapping[str, Any]) -> str:
    """One table for each domain, and that of the correlations."""
    parts = [_table(name, domain) for name, domain in found.items() if domain["arms"]]
    rows = [
        [f"{name}, {OUTCOMES[key]}", *("–" if value is None else f"{value:+.2f}" for value in by_measure.values())]
        for name, domain in found.items()
        for key, by_measure in domain["correlations"].items()
    ]
    heading = ["Spearman's ρ with", "PSNR", "SSIM", "moved", "high frequencies"]
    parts.append(markdown_table([*heading, "lost to noise", "interpolation", "decoded"], rows))
    return "\n\n".join(parts)


def _table(name: str, domain: Mapping[str, Any]) -> str:
    rows = []
    for arm, row in domain["arms"].items():
        measures, summary = row["measures"], row["summary"]
        difference = summary["samples.1.frechet_held_out"].get("difference")
        accuracies = [key for key in summary if key.endswith(".accuracy")]
        rows.append(
            [
                f"`{arm}`",
                f"{measures['psnr']:.2f}",
                f"{measures['distance']:.2f}",
                f"{measures['high_frequencies']:.2f}",
                f"{measures['noise_loss']:.2f}",
                f"{measures['interpolation_frechet']:.2f}",
                cell(summary["samples.1.frechet_held_out"]),
                "" if difference is None or arm == FIRST else cell(difference, "+.2f"),
                " / ".join(f"{100 * summary[key]['mean']:.0f}" for key in accuracies) or "–",
                cell(summary["samples.1.diversity"]),
                cell(summary["validation_loss"], ".4f"),
                cell(summary["restored.mean"]),
            ]
        )
    seeds = max(len(row["cells"]) for row in domain["arms"].values())
    first = next(iter(domain["arms"].values()))["summary"]
    floor = first["samples.real_held_out"]["mean"]
    heading = [
        f"{name}, {seeds} seed{'s' * (seeds > 1)}", "PSNR, dB", "moved, σ", "high frequencies", "lost to noise, dB",
        "interpolation", f"samples (real: {floor:.2f})", "beside `initial`", "user accuracy, %", "diversity",
        "validation loss", "restored, dB",
    ]  # fmt: skip
    return markdown_table(heading, rows)


def cell(found: Mapping[str, float], form: str = ".2f") -> str:
    return format(found["mean"], form) if found["count"] == 1 else spread_text(found, form)


def _read(path: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record
