"""Summary statistics of per-image metrics."""

from collections.abc import Mapping, Sequence

import numpy as np


def metric_statistics(metrics: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return `mean`, `std` (population), `min`, `max` and `median` over the images for each metric."""
    return column_statistics({name: np.array([row[name] for row in metrics]) for name in metrics[0]} if metrics else {})


def column_statistics(table: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return the same statistics as `metric_statistics`, from columns (N,)."""
    return {
        name: {
            "mean": float(values.mean()),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "median": float(np.median(values)),
        }
        for name, values in ((name, column.astype(np.float64)) for name, column in table.items())
    }


# Label, metric, number of decimals.
SHOWN = (
    ("PSNR before (dB)", "initial_psnr", 2),
    ("PSNR after (dB)", "final_psnr", 2),
    ("gain (dB)", "psnr_improvement", 2),
    ("SSIM before", "initial_ssim", 4),
    ("SSIM after", "final_ssim", 4),
)


def statistic_rows(
    statistics: Mapping[str, Mapping[str, float]], columns: Sequence[str] = ("mean", "median", "min", "max")
) -> list[tuple[str, list[str]]]:
    """Return the rows of a table for people: label and formatted values of `columns`. Empty for empty statistics."""
    return [
        (label, [f"{statistics[name][column]:.{digits}f}" for column in columns])
        for label, name, digits in SHOWN
        if name in statistics
    ]
