"""Structural losses, 1 − similarity: SSIM, MS-SSIM and a mixture of SSIM and L1. For images (B, C, H, W) in [-1, 1]."""

import torch
import torch.nn.functional as F

from ..errors import UsageError
from .metrics import SSIM_SIGMA, SSIM_WINDOW, intensity, similarity_maps
from .metrics import ssim as similarity
from .pointwise import l1
from .weighting import blend

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Exponents from the finest to the coarsest scale, Wang et al., 2003.


def ssim(
    decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None,
    *, window: int = SSIM_WINDOW, sigma: float = SSIM_SIGMA,
) -> torch.Tensor:  # fmt: skip
    """Return 1 − SSIM (Wang et al., 2004), (B,), with a Gaussian window of `window` pixels and standard deviation
    `sigma`; see `metrics.ssim` for the weight map.
    """
    return 1.0 - similarity(decoded, target, weight, window=window, sigma=sigma)


def improved_ssim(
    decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None,
    *, window: int = 7, sigma: float = 1.0, alpha: float = 0.84,
) -> torch.Tensor:  # fmt: skip
    """Return α·(1 − SSIM) + (1 − α)·½·L1, (B,), with a smaller window than SSIM's usual one.

    SSIM alone is nearly blind to a shift of brightness or colour, which L1 measures; the smaller window follows finer
    structure. α is that of Zhao et al., "Loss Functions for Image Restoration with Neural Networks", 2017, and ½ scales
    L1 to a range of 1 as there; unlike here, they use several scales and weight L1 by the window.
    """
    structure = ssim(decoded, target, weight, window=window, sigma=sigma)
    return alpha * structure + (1.0 - alpha) * 0.5 * l1(decoded, target, weight)


def ms_ssim(
    decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None,
    *, window: int = SSIM_WINDOW, sigma: float = SSIM_SIGMA,
) -> torch.Tensor:  # fmt: skip
    """Return 1 − MS-SSIM over the five `SCALES`, (B,).

    Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment", 2003. For each channel,
    the contrast-structure terms of the four finer scales and the similarity of the coarsest one are raised to their
    exponents and multiplied; the result is the mean over channels. A negative term, for which the power is not defined,
    counts as 0; then its channel counts as 0 and gives no gradient. A weight map is applied by `blend`.
    """
    decoded, target = intensity(blend(decoded, target, weight)), intensity(target)
    factors = []
    for scale, exponent in enumerate(SCALES):
        luminance, structure = similarity_maps(decoded, target, window, sigma)
        last = scale == len(SCALES) - 1
        term = (luminance * structure if last else structure).flatten(2).mean(2)  # (B, C)
        # Not a clamp at 0: there the derivative of the power is infinite, and NaN after multiplication by 0.
        factors.append(torch.where(term > 0.0, term.clamp_min(1e-30) ** exponent, torch.zeros_like(term)))
        if not last:
            padding = [side % 2 for side in decoded.shape[2:]]
            decoded, target = (F.avg_pool2d(x, 2, padding=padding) for x in (decoded, target))
    return 1.0 - torch.stack(factors).prod(0).mean(1)


def require_pictures(size: tuple[int, ...], **_: object) -> None:
    """Raise `UsageError` for a target that does not have two spatial dimensions."""
    if len(size) != 2:
        raise UsageError(f"loss_function: SSIM is for pictures (B, C, H, W), found {len(size)} spatial dimensions")


def require_five_scales(size: tuple[int, ...], *, window: int = SSIM_WINDOW, **_: object) -> None:
    """Raise `UsageError` unless the window fits into the image halved four times."""
    require_pictures(size)
    least = (window - 1) * 2 ** (len(SCALES) - 1)
    if min(size) <= least:
        fits = (min(size) - 1) // 16 + 1
        raise UsageError(
            f"loss_function: ms_ssim(window={window}) halves a picture four times and needs sides above {least} pixels, "
            f"found {'×'.join(map(str, size))}; use ssim" + (f", or ms_ssim(window={fits})" if fits >= 3 else "")
        )
