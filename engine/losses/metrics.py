"""Reconstruction quality per image, in fp32: PSNR for any value range, SSIM for images in [-1, 1]."""

import torch
import torch.nn.functional as F

PSNR_CEILING = 100.0  # In dB, reported for identical images, since JSON has no infinity.
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
    """Return the mean squared error after clamping `image` to `value_range`, (B,).


    image, target: (B, C, *spatial). weight: (B, 1, *spatial) of mean 1 per image; the mean is then Σ w·e² / Σ w.
    """
    error = (image.float().clamp(*value_range) - target.float()).square()
    return (error if weight is None else weight * error).flatten(1).mean(1)


def psnr(
    image: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> torch.Tensor:
    """Return the PSNR of each image, (B,) in dB, at most `PSNR_CEILING`; `image` is clamped to `value_range` first.

    image, target: (B, C, *spatial). weight: (B, 1, *spatial) of mean 1 per image. The peak is the width of the range.
    """
    peak = (value_range[1] - value_range[0]) ** 2
    return (10.0 * torch.log10(peak / mean_squared_error(image, target, weight, value_range))).clamp_max(PSNR_CEILING)


def ssim(
    image: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None,
    *, window: int = SSIM_WINDOW, sigma: float = SSIM_SIGMA,
) -> torch.Tensor:  # fmt: skip
    """Return the structural similarity of each image, (B,); differentiable, without clamping.

    image, target: (B, C, H, W) in [-1, 1]; SSIM is computed on the intensities (x + 1) / 2, since it is defined for
    values that are 0 at black. It uses population covariance, omits the border where the window does not fit, and
    averages over channels, like scikit-image's `structural_similarity(gaussian_weights=True,
    use_sample_covariance=False)`. An image smaller than the window is measured with the largest odd window that fits.
    weight: (B, 1, H, W), at least 0. Pixels of weight 0 are set to the target; then each window position counts by the
    window average of the weight: Σ w·s / Σ w.
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
    """Map [-1, 1] to the intensity range [0, 1], where 0 is black."""
    return 0.5 * image + 0.5


def similarity_maps(
    image: torch.Tensor, target: torch.Tensor, window: int, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two factors of SSIM at each window position, luminance and contrast-structure; images are in [0, 1]."""
    maps = torch.cat([image, target, image * image + target * target, image * target], 1)
    mean_x, mean_y, squares, product = _blur(maps, window, sigma).split(image.shape[1], 1)
    means, square_means = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    c1, c2 = 0.01**2, 0.03**2
    # twice the covariance, and the sum of the variances
    return (2 * means + c1) / (square_means + c1), (2 * (product - means) + c2) / (squares - square_means + c2)


def _blur(x: torch.Tensor, window: int, sigma: float) -> torch.Tensor:
    """Convolve each channel of (B, C, H, W) with a Gaussian of `window` × `window` pixels, without padding."""
    channels, height, width = x.shape[1:]
    size = min(window, height - 1 + height % 2, width - 1 + width % 2)
    offsets = torch.arange(size, dtype=torch.float32, device=x.device) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).to(x.dtype)
    if x.device.type == "cpu":  # where convolutions of each channel by itself take the channels as a vector
        x = x.contiguous(memory_format=torch.channels_last)
    x = F.conv2d(x, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Convert [-1, 1] to uint8 [0, 255], clamped and rounded to the nearest level (torch rounds half to even)."""
    return ((image.float().clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)


def from_uint8(image: torch.Tensor) -> torch.Tensor:
    """Convert uint8 [0, 255] to fp32 [-1, 1]: x / 127.5 − 1, the convention of diffusers and vae-toolkit."""
    return image.to(torch.float32) / 127.5 - 1.0


def quality(image: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Return `psnr` (dB), `ssim` and, for the image rounded to 8 bits, `psnr_8bit` and `ssim_8bit`; each (B,), fp32.

    weight: (B, 1, H, W) of mean 1 per image; the metrics are then weighted by it.
    """
    clamped, rounded = image.float().clamp(-1, 1), from_uint8(to_uint8(image))
    return {
        "psnr": psnr(clamped, target, weight),
        "ssim": ssim(clamped, target, weight),
        "psnr_8bit": psnr(rounded, target, weight),
        "ssim_8bit": ssim(rounded, target, weight),
    }
