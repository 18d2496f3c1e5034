"""Quality of a reconstruction, per image, in fp32: PSNR for any value range, SSIM for pictures in [-1, 1]."""

import torch
import torch.nn.functional as F

PSNR_CEILING = 100.0  # dB, reported for identical pictures: infinity is not JSON
SSIM_WINDOW, SSIM_SIGMA = (
    11,
    1.5,
)  # Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004


def mean_squared_error(
    image: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> torch.Tensor:
    """(B, C, *spatial) twice -> (B,): mean squared error after clamping `image` to `value_range`.

    weight: (B, 1, *spatial) of mean 1 per image; the mean is then Σ w·e² / Σ w.
    """
    error = (image.float().clamp(*value_range) - target.float()).square()
    return (error if weight is None else weight * error).flatten(1).mean(1)


def psnr(
    image: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> torch.Tensor:
    """(B, C, *spatial) twice -> (B,) dB, each image on its own, `image` clamped to `value_range` first; at most
    `PSNR_CEILING`. The peak is the width of the range."""
    peak = (value_range[1] - value_range[0]) ** 2
    return (10.0 * torch.log10(peak / mean_squared_error(image, target, weight, value_range))).clamp_max(PSNR_CEILING)


def ssim(
    image: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None,
    *, window: int = SSIM_WINDOW, sigma: float = SSIM_SIGMA,
) -> torch.Tensor:  # fmt: skip
    """(B, C, H, W) in [-1, 1] -> (B,): structural similarity, differentiable, not clamped.

    Of the intensities (x + 1) / 2, SSIM being defined from black upwards. Population covariance, the border without a
    full window left out, channels averaged: scikit-image's `structural_similarity(gaussian_weights=True,
    use_sample_covariance=False)`. A picture smaller than the window is measured with the largest odd one that fits.
    weight: (B, 1, H, W) ≥ 0. Pixels of weight 0 are made equal to the target's; then each place of the window counts
    as much as the weight under it, averaged by the window: Σ w·s / Σ w.
    """
    if weight is not None:
        image = torch.where(weight > 0, image, target)
    luminance, structure = similarity_maps(intensity(image), intensity(target), window, sigma)
    similarity = luminance * structure
    if weight is None:
        return similarity.flatten(1).mean(1)
    seen = _blur(weight.to(image.dtype), window, sigma)
    return (seen * similarity).flatten(1).mean(1) / seen.flatten(1).mean(1)


def intensity(image: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> [0, 1], 0 being black."""
    return 0.5 * image + 0.5


def similarity_maps(
    image: torch.Tensor, target: torch.Tensor, window: int, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """SSIM's two factors at each place of the window: luminance, and contrast with structure; pictures in [0, 1]."""
    mean_x, mean_y = _blur(image, window, sigma), _blur(target, window, sigma)
    variance_x = _blur(image * image, window, sigma) - mean_x.square()
    variance_y = _blur(target * target, window, sigma) - mean_y.square()
    covariance = _blur(image * target, window, sigma) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return luminance, (2 * covariance + c2) / (variance_x + variance_y + c2)


def _blur(x: torch.Tensor, window: int, sigma: float) -> torch.Tensor:
    """(B, C, H, W), each channel by a Gaussian of `window` × `window` pixels, only where it fits."""
    channels, height, width = x.shape[1:]
    size = min(window, height - 1 + height % 2, width - 1 + width % 2)
    offsets = torch.arange(size, dtype=torch.float32, device=x.device) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).to(x.dtype)
    x = F.conv2d(x, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> uint8 [0, 255], clamped and rounded to the nearest level (torch's half-to-even)."""
    return ((image.float().clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)


def from_uint8(image: torch.Tensor) -> torch.Tensor:
    """uint8 [0, 255] -> fp32 [-1, 1]: x / 127.5 − 1, the convention of diffusers and vae-toolkit."""
    return image.to(torch.float32) / 127.5 - 1.0


def quality(image: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """`psnr`, `ssim` and, of the picture rounded to 8 bits, `psnr_8bit`, `ssim_8bit`; each (B,) fp32.

    With a weight map, (B, 1, H, W) of mean 1 per image, of what counts.
    """
    clamped, rounded = image.float().clamp(-1, 1), from_uint8(to_uint8(image))
    return {
        "psnr": psnr(clamped, target, weight),
        "ssim": ssim(clamped, target, weight),
        "psnr_8bit": psnr(rounded, target, weight),
        "ssim_8bit": ssim(rounded, target, weight),
    }
