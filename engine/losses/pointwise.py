"""Pixel-wise losses: weighted means over channels and pixels, one value per image.

All take `decoded` and `target`, (B, C, *spatial) in [-1, 1], and return (B,). Values out of range are not clamped, so
that their gradient brings them back into the range.
"""

import torch
import torch.nn.functional as F

from .weighting import weighted_mean

HUBER_DELTA = 0.1  # In the [-1, 1] range: 13 of 255 grey levels, beyond which an error counts linearly.


def mse(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean squared error over channels and pixels, (B,)."""
    return weighted_mean((decoded - target).square(), weight)


def l1(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean absolute error over channels and pixels, (B,)."""
    return weighted_mean((decoded - target).abs(), weight)


def huber(
    decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, *, delta: float = HUBER_DELTA
) -> torch.Tensor:
    """Return the mean Huber loss, (B,): ½e² for |e| up to δ, δ(|e| − ½δ) beyond."""
    return weighted_mean(F.huber_loss(decoded, target, reduction="none", delta=delta), weight)


def charbonnier(
    decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, *, eps: float = 1e-3
) -> torch.Tensor:
    """Return the mean of √(e² + ε²) − ε, (B,): the absolute error, smooth at 0.

    Charbonnier et al., 1994; ε as in LapSRN (Lai et al., 2017).
    """
    return weighted_mean(((decoded - target).square() + eps * eps).sqrt() - eps, weight)


def psnr(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the negative PSNR in dB for a range of 2, (B,).

    It is the logarithm of the MSE, so that a change of the error counts by its ratio, for images with small and with
    large errors alike.
    """
    return 10.0 * torch.log10((mse(decoded, target, weight) / 4.0).clamp_min(1e-10))
