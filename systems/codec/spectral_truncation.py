"""Phase 1: training pictures lose their high frequencies at first, and get them back epoch by epoch.

X ↦ P_Hᵀ (M(t) ⊙ P_H X P_Wᵀ) P_W with M = clamp((τ − r) / τ, 0, 1), r = √((u/H)² + (v/W)²), τ(t) = τ₀ + (τ₁ − τ₀) t / T for
epochs t < T, the identity from T on: "Taming Hierarchical Image Coding Optimization: A Spectral Regularization
Perspective", ICLR 2026, intra-scale regularisation.
"""

from dataclasses import dataclass

import torch

from ...engine.errors import UsageError
from .transforms.dct import dct_2d, idct_2d

PHASE_1, BASELINE = "phase1_intra", "baseline"  # as they are logged


@dataclass(frozen=True)
class SpectralTruncation:
    """The schedule. Call it with pictures and the epoch; it keeps no state, so a resumed training needs the epoch alone."""

    tau_init: float = (
        0.05  # τ₀, the cutoff at epoch 0, above 0; at 1 the radius reaches the highest frequency of one axis
    )
    tau_final: float = 1.0  # τ₁, towards which τ grows
    epochs: int = 100  # T; 0: nothing is ever cut off
    # M rises linearly to 1 over the last `ramp_epochs` epochs before T. 0 is the published schedule, which lets through
    # 13 % of the energy of white noise at epoch T − 1 and 100 % at epoch T.
    ramp_epochs: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.tau_init <= self.tau_final < float("inf"):
            raise UsageError(
                f"tau: expected 0 < tau_init ≤ tau_final, found tau_init={self.tau_init}, tau_final={self.tau_final}"
            )
        if not 0 <= self.ramp_epochs <= self.epochs:
            raise UsageError(
                f"truncation: expected 0 ≤ ramp_epochs ≤ epochs, found ramp_epochs={self.ramp_epochs}, epochs={self.epochs}"
            )

    def tau(self, epoch: float) -> float:
        """Return τ at `epoch`, counted from 0; τ₁ from T on."""
        if epoch >= self.epochs:
            return self.tau_final
        return self.tau_init + (self.tau_final - self.tau_init) * epoch / self.epochs

    def phase(self, epoch: float) -> str:
        """Return what is logged as `spectral/phase`: "phase1_intra" before T, "baseline" from T on."""
        return PHASE_1 if epoch < self.epochs else BASELINE

    def mask(self, height: int, width: int, epoch: float, device: torch.device | None = None) -> torch.Tensor:
        """Return M at `epoch`, (height, width) fp32 in [0, 1]; [0, 0], the mean of the picture, is 1."""
        if epoch >= self.epochs:
            return torch.ones(height, width, device=device)
        tau = self.tau(epoch)
        rows = torch.arange(height, device=device).unsqueeze(1) / height
        columns = torch.arange(width, device=device).unsqueeze(0) / width
        mask = ((tau - torch.hypot(rows, columns)) / tau).clamp(0.0, 1.0)
        ramp = (epoch - self.epochs + self.ramp_epochs) / self.ramp_epochs if self.ramp_epochs else 0.0
        return mask if ramp <= 0.0 else mask + ramp * (1.0 - mask)

    def __call__(self, images: torch.Tensor, epoch: float) -> torch.Tensor:
        """Return `images`, (B, C, H, W) floating point, as epoch `epoch` sees them; the tensor itself from T on.

        In training the result is both the codec's input and its target.
        """
        if epoch >= self.epochs:
            return images
        height, width = images.shape[-2:]
        return idct_2d(dct_2d(images) * self.mask(height, width, epoch, images.device).to(images.dtype))
