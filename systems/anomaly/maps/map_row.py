"""A volume's row in a file of maps."""

from dataclasses import dataclass

import numpy as np

UNKNOWN = -1  # the label where it is not known


@dataclass(frozen=True, eq=False)
class MapRow:
    """What a file of maps has of one volume. Arrays are (D, H, W).

    label: 0 normal, 1 abnormal, -1 not known. scores: of the whole volume. error: float32. volume, reconstruction: float32 in
    [0, 1], stored as float16; None where the file keeps none. mask: booleans, None where the volume has none.
    """

    name: str
    patient: str
    source: str
    source_sha256: str
    label: int
    scores: dict[str, float]
    error: np.ndarray
    volume: np.ndarray | None = None
    reconstruction: np.ndarray | None = None
    mask: np.ndarray | None = None
