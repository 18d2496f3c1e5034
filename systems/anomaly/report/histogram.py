"""The counts of a score by label, for bars."""

from typing import NamedTuple

import numpy as np

from ..data.volume import ABNORMAL, NORMAL


class Histogram(NamedTuple):
    """counts: of each label that occurs, (bins,), of volumes. edges: of the first and the last bin. most: the largest count."""

    name: str
    counts: dict[str, list[int]]
    edges: tuple[float, float]
    most: int


def histogram(name: str, values: np.ndarray, labels: np.ndarray) -> Histogram:
    """The finite values (N,) of a score in 8 to 40 bins of one width."""
    finite = np.isfinite(values)
    values, labels = values[finite], labels[finite]
    edges = np.histogram_bin_edges(values, bins=min(40, max(8, len(values) // 4)))
    kinds = {"normal": labels == NORMAL, "abnormal": labels == ABNORMAL, "no label": labels < 0}
    counts = {kind: np.histogram(values[mine], edges)[0].tolist() for kind, mine in kinds.items() if mine.any()}
    most = max((count for one in counts.values() for count in one), default=0)
    return Histogram(name, counts, (float(edges[0]), float(edges[-1])), most)
