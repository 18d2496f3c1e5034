"""Means over pixels. Values out of range are not clamped, so that they are pulled back."""

import torch
import torch.nn.functional as F

from .weighting import weighted_mean

HUBER_DELTA = 0.1  # in the [-1, 1] range: 13 grey levels of 255, beyond which an error counts linearly


def mse(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared error over channels and pixels."""
    return weighted_mean((decoded - target).square(), weight)


def l1(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean absolute error."""
    return weighted_mean((decoded - target).abs(), weight)


def huber(
    decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, *, delta: float = HUBER_DELTA
) -> torch.Tensor:
    """Huber's loss: ½e² inside δ, δ(|e| − ½δ) outside."""
    return weighted_mean(F.huber_loss(decoded, target, reduction="none", delta=delta), weight)


def charbonnier(
    decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, *, eps: float = 1e-3
) -> torch.Tensor:
    """√(e² + ε²) − ε: the absolute error, smooth at 0 (Charbonnier et al., 1994; ε as in LapSRN, Lai et al., 2017)."""
    return weighted_mean(((decoded - target).square() + eps * eps).sqrt() - eps, weight)


def psnr(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Negative PSNR in dB for a range of 2: the MSE's logarithm, so bright and dark errors weigh by ratio."""
    return 10.0 * torch.log10((mse(decoded, target, weight) / 4.0).clamp_min(1e-10))
