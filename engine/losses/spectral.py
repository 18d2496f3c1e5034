"""Differences of spectra."""

import torch

from .weighting import blend


def fft(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean |F(x) − F(t)| over the whole orthonormal spectrum of each channel.

    The absolute difference, as in Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", 2021:
    the squared one is the MSE again (Parseval). The few low frequencies, where pictures and their errors have most of
    their energy, weigh less than in the MSE. A weight map enters by `blend`.
    """
    difference = blend(decoded, target, weight) - target
    spectrum = torch.fft.fftn(difference, dim=tuple(range(2, difference.ndim)), norm="ortho")
    # the norm of the two parts has a gradient at 0, which the root of their squares has not
    return torch.linalg.vector_norm(torch.view_as_real(spectrum), dim=-1).flatten(1).mean(1)
