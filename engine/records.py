"""What a run produces, one object per picture, in plain numpy: the unit that shards and exporters pass on."""

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
class Record:
    """A finished picture. Latents are (C, h, w) fp32, unscaled; images uint8 (H, W, 3)."""

    name: str
    split: str
    source_path: str
    original_size: tuple[int, int]  # height, width before fitting
    initial_latents: np.ndarray
    optimized_latents: np.ndarray
    losses: list[float]
    convergence_iteration: int | None
    stop_reason: str
    metrics: dict[str, float]  # by METRICS
    conversions: tuple[str, ...] = ()
    images: dict[str, np.ndarray] = field(default_factory=dict)  # by IMAGES, empty where they are not kept
    target: np.ndarray | None = None  # uint8 (H, W, 3), what the latents were optimised for; not read back from files


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
