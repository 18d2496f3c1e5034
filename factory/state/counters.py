"""Counts and statistics of a run: for the progress bar, for the limit on failures, and for run.json."""

import json
from collections import defaultdict
from typing import Any

import h5py
import numpy as np

from ...engine.errors import RunStoppedError
from ...engine.inputs.views import PLAIN, VIEWS
from ...engine.optimization.slots import STOP_REASONS, TARGET_REACHED
from ...engine.records import METRICS, Failure, Record
from ...engine.statistics.latent_report import LatentReport
from ...exporters.base.stored_views import stored_views
from ...exporters.hdf5.reading import open_file
from ...exporters.summaries.statistics import column_statistics
from .ledger import Shard
from .progress import Progress
from .run_folder import RunFolder


class RunCounters:
    """Count pictures or shards as they are finished, and update the progress bar.

    Raises `RunStoppedError` if more than `max_failures` pictures failed, including those of earlier attempts at this
    run.
    """

    def __init__(self, folder: RunFolder, bar: Progress, max_failures: int | None):
        self.bar, self.max_failures = bar, max_failures
        begun = folder.ledger.shards()
        self.failures = sum(len(shard.failures) for shard in begun.values() if shard.whole)
        # a partly finished shard is reported in full, including those pictures, when another process makes it
        self._partly = {number: shard.images for number, shard in begun.items() if not shard.whole}
        bar.skip(sum(shard.images for shard in begun.values()) + self.failures)

    def outcomes(self, outcomes: list[Record | Failure]) -> None:
        """Count finished pictures of a batch made in this process."""
        gains = [item.metrics["psnr_improvement"] for item in outcomes if isinstance(item, Record)]
        self._add(gains, len(outcomes) - len(gains))

    def shard(self, shard: Shard) -> None:
        """Count a complete shard made by another process."""
        self.bar.skipped -= self._partly.pop(shard.number, 0)
        self._add(list(shard.gains), len(shard.failures))

    def _add(self, gains: list[float], failed: int) -> None:
        """Add to the counts, and raise `RunStoppedError` beyond the limit on failures."""
        self.bar.add(gains, failed)
        self.failures += failed
        if self.max_failures is not None and self.failures > self.max_failures:
            raise RunStoppedError(
                f"{self.failures} pictures failed, more than --max-failures {self.max_failures}; run.json has the reasons"
            )


def summarise(folder: RunFolder) -> dict[str, Any]:
    """Return the fields of `RunRecord` that are computed from the shards: counts, statistics, latents and failures.

    They do not depend on which processes made the shards, nor on the number of attempts.
    """
    columns: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    report, shards, fallback = LatentReport(), folder.ledger.shards(), 0
    for shard in shards.values():
        if shard.file is not None:
            with open_file(folder.shard_path(shard.number)) as file:
                for view in stored_views(file):
                    for name in METRICS:
                        columns[f"{view.suffix}/{name}"].append(file[f"metrics{view.suffix}/{name}"][:])
                report.merge(json.loads(file.attrs["report"]))
                fallback += _fallbacks(file)
    tables = {
        view.name: column_statistics({name: np.concatenate(columns[f"{view.suffix}/{name}"]) for name in METRICS})
        for view in VIEWS.values()
        if f"{view.suffix}/{METRICS[0]}" in columns
    }
    failures = tuple(failure for shard in shards.values() for failure in shard.failures)
    return {
        "counts": {
            "total": folder.plan.total,
            "done": sum(shard.images for shard in shards.values()),
            "failed": len(failures),
        }
        | ({"fallback": fallback} if fallback else {}),
        "statistics": tables.pop(PLAIN, {}),
        "view_statistics": tables,
        "latents": report.summary(),
        "failures": failures,
    }


def _fallbacks(file: h5py.File) -> int:
    """Return how many pictures of a shard kept the encoder's own latent, in all of their views.

    Such a latent has exactly the initial loss. Where it met the run's target, there was nothing to improve.
    """
    kept = np.ones(len(file["image_name"]), bool)
    for view in stored_views(file):
        kept &= file[f"metrics{view.suffix}/loss_reduction"][:] == 0.0
        if kept.any():
            kept &= file[f"stop_reason{view.suffix}"].asstr()[:] != STOP_REASONS[TARGET_REACHED]
    return int(kept.sum())
