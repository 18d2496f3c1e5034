"""Summaries of per-image metrics."""

import numpy as np


def metric_statistics(metrics: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """For each metric its `mean`, `std` (population), `min`, `max` and `median` over the images."""
    if not metrics:
        return {}
    table = {name: np.array([row[name] for row in metrics], np.float64) for name in metrics[0]}
    return {
        name: {
            "mean": float(values.mean()),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "median": float(np.median(values)),
        }
        for name, values in table.items()
    }
