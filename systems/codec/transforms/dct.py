"""Orthonormal two-dimensional DCT-II, P_H X P_Wᵀ, and its inverse by the transpose, P_Hᵀ F P_W.

P[k, n] = s_k cos(π k (2n + 1) / 2N), s_0 = √(1/N), else √(2/N). The phase k (2n + 1) is reduced modulo its period 4N in
integers and the cosine taken in fp64: computed in fp32 the phase, up to 2N² / 2N · π, loses the digits that the cosine
needs, and coefficients of unit Gaussians at N = 256 are off by 1e-4 in place of 3e-6.
"""

import math
from functools import lru_cache

import torch


@lru_cache(maxsize=64)
def dct_basis(size: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return P, (size, size) of `dtype` on `device`: row k is the k-th frequency. It is shared: do not write into it."""
    with torch.inference_mode(False):  # what is cached must serve a backward pass too, wherever it was made
        frequency, position = torch.arange(size).unsqueeze(1), torch.arange(size).unsqueeze(0)
        phase = (frequency * (2 * position + 1)) % (4 * size)
        basis = torch.cos(phase.double() * (math.pi / (2 * size))) * math.sqrt(2.0 / size)
        basis[0] *= math.sqrt(0.5)
        return basis.to(device, dtype)


def dct_2d(x: torch.Tensor) -> torch.Tensor:
    """Return the coefficients of `x`, (…, H, W) floating point, in its shape and type; [0, 0] is H·W's mean · √(HW).

    Types of 16 bits are transformed in fp32, inside autocast too, and rounded once.
    """
    return _separable(x, inverse=False)


def idct_2d(coefficients: torch.Tensor) -> torch.Tensor:
    """Return the picture, (…, H, W), whose `dct_2d` is `coefficients`; types as there."""
    return _separable(coefficients, inverse=True)


def _separable(x: torch.Tensor, inverse: bool) -> torch.Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows, columns = (dct_basis(size, x.device, dtype) for size in x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):  # else it would multiply in 16 bits
        wide = x.to(dtype)
        found = rows.mT @ wide @ columns if inverse else rows @ wide @ columns.mT
    return found.to(x.dtype)
