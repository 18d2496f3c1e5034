"""The settings of a detector and its training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ....engine.errors import UsageError
from ..sections import read_section

LABELS = ("boxes", "slices")
VOXEL = 0.01  # λ1 of slices by the number of voxels: see `default_weights`


@dataclass(frozen=True)
class DetectorSettings:
    """labels: `boxes` or `slices`. weights: λ1 to λ4 of the losses; None: `default_weights`. margin: m of the third loss.

    label_margin: voxels that a region derived from a mask has more on each side. channels: of the network's levels. Raises
    `UsageError` for values that make no training.
    """

    labels: str = "boxes"
    weights: tuple[float, ...] | None = None
    margin: float = 0.5
    label_margin: int = 0
    channels: tuple[int, ...] = (8, 16, 32)
    epochs: int = 15
    batch_size: int = 4
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seed: int = 42

    def __post_init__(self) -> None:
        if self.labels not in LABELS:
            raise UsageError(f"labels: expected {' or '.join(LABELS)}, found {self.labels!r}")
        weights = self.weights
        if weights is not None and (
            len(weights) != 4 or not all(0 <= weight < float("inf") for weight in weights) or not any(weights)
        ):
            raise UsageError(f"weights: expected four finite numbers from 0 on, not all 0, found {weights}")
        if not 0 <= self.margin <= 1:
            raise UsageError(f"margin: expected a number from 0 to 1, found {self.margin}")
        if not self.channels or any(channels < 4 or channels % 4 for channels in self.channels):
            raise UsageError(f"channels: expected multiples of 4, found {self.channels}")
        for name, least in (("label_margin", 0), ("epochs", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: expected a whole number from {least} on, found {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected a finite number from 0 on, found {getattr(self, name)}")

    def with_weights(self, side: int) -> "DetectorSettings":
        """The same settings with the weights for volumes of this side, in voxels, where none were given."""
        return replace(self, weights=self.weights or default_weights(self.labels, side))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "DetectorSettings":
        """From what `to_dict` gave. Raises `UsageError` for unknown keys."""
        return read_section(cls, "detector", values)


def default_weights(labels: str, side: int) -> tuple[float, ...]:
    """λ1 to λ4 for volumes of this side, in voxels.

    With slices a single voxel satisfies the second and third loss. In the first, a mean over the voxels, it costs next to nothing, so
    the same voxel would be found in every volume, normal ones too. There λ1 grows with the number of voxels: a voxel costs the same
    at every side.
    """
    return (1.0 if labels == "boxes" else VOXEL * side**3, 0.1, 0.1, 0.1)
