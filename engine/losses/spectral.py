"""Losses on the difference of Fourier spectra."""

import torch

from .weighting import blend


def fft(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean |F(x) − F(t)| over the whole orthonormal spectrum of all channels, (B,).

    The difference is absolute, as in Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", 2021:
    the squared one would equal the MSE (Parseval). The few low frequencies, where images and their errors have most of
    their energy, weigh less than in the MSE. A weight map is applied by `blend`.
    """
    difference = blend(decoded, target, weight) - target
    spectrum = torch.fft.fftn(difference, dim=tuple(range(2, difference.ndim)), norm="ortho")
    # `vector_norm` of real and imaginary part has a gradient at 0; the square root of the sum of their squares has
    # none.
    return torch.linalg.vector_norm(torch.view_as_real(spectrum), dim=-1).flatten(1).mean(1)
