"""Volumes as the engine's loop sees them."""

from typing import ClassVar

import torch

from ....engine.losses.metrics import psnr
from ....engine.modality import Modality

TISSUE = 0.02  # of the window of 0 to 1900 HU: above fat, water and air


class Volumes(Modality):
    """Volumes (B, 1, D, H, W) in [0, 1].

    Most of a volume is empty, which flatters a PSNR over all voxels: `tissue_psnr`, in dB for a range of 1, is over those
    whose target is above 0.02. Where there are none it is the PSNR.
    """

    metric_names: ClassVar[tuple[str, ...]] = ("psnr", "tissue_psnr")
    improvement_names: ClassVar[tuple[str, ...]] = ("psnr", "tissue_psnr")

    def __init__(self) -> None:
        super().__init__(0.0, 1.0, name="volumes")

    def measure(
        self, output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        tissue = (target > TISSUE).float() if weight is None else weight * (target > TISSUE)
        mean = tissue.flatten(1).mean(1).view(-1, 1, 1, 1, 1)
        tissue = torch.where(mean > 0, tissue / mean.clamp_min(1e-12), torch.ones_like(tissue))
        return super().measure(output, target, weight) | {"tissue_psnr": psnr(output, target, tissue, self.value_range)}
