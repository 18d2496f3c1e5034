"""What a run produces, one object per picture, in plain numpy: the unit that shards and exporters pass on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

METRICS = (
    "initial_psnr",
    "final_psnr",
    "psnr_improvement",
    "initial_ssim",
    "final_ssim",
    "ssim_improvement",
    "loss_reduction",
    "initial_psnr_8bit",
    "final_psnr_8bit",
    "initial_ssim_8bit",
    "final_ssim_8bit",
)
IMAGES = ("original", "initial", "optimized")


@dataclass
class Outcome:
    """What optimising one target gave. Latents are (C, h, w) fp32, unscaled."""

    initial_latents: np.ndarray
    optimized_latents: np.ndarray
    losses: list[float]
    convergence_iteration: int | None
    stop_reason: str
    metrics: dict[str, float]  # by METRICS


@dataclass
class Record(Outcome):
    """A finished picture; images are uint8 (H, W, 3)."""

    name: str
    split: str
    source_path: str
    original_size: tuple[int, int]  # height, width before fitting
    source_sha256: str = ""  # of the file the picture was read from, "" where it is not known
    conversions: tuple[str, ...] = ()
    images: dict[str, np.ndarray] = field(default_factory=dict)  # by IMAGES, empty where they are not kept
    flipped: Outcome | None = None  # of the picture mirrored left-right, where the run had that
    target: np.ndarray | None = None  # uint8 (H, W, 3), what the latents were optimised for; not read back from files

    @property
    def nbytes(self) -> int:
        """Of its arrays."""
        arrays = [self.initial_latents, self.optimized_latents, *self.images.values()]
        return sum(array.nbytes for array in arrays)


def flipped_outcomes(records: Iterable[Record]) -> list[Outcome]:
    """Of the mirrored pictures; empty where the run had none."""
    return [record.flipped for record in records if record.flipped is not None]


@dataclass(frozen=True)
class Failure:
    """A picture that could not be done, and why."""

    name: str
    split: str
    source_path: str
    stage: str  # load, encode or optimize
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("name", "split", "source_path", "stage", "reason")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Failure":
        """Its inverse; what else is in `values` is passed over."""
        return cls(*(values[key] for key in ("name", "split", "source_path", "stage", "reason")))
