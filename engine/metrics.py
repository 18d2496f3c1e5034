"""Quality of a reconstruction, per image: PSNR and SSIM, in fp32, pictures in [-1, 1]."""

import torch
import torch.nn.functional as F

PSNR_CEILING = 100.0  # dB, reported for identical pictures: infinity is not JSON
SSIM_WINDOW, SSIM_SIGMA = (
    11,
    1.5,
)  # Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004


def mean_squared_error(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(B, C, *spatial) in [-1, 1] -> (B,): mean squared error after clamping, in the units of [-1, 1]."""
    return (image.float().clamp(-1, 1) - target.float()).square().flatten(1).mean(1)


def psnr(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(B, C, *spatial) in [-1, 1] -> (B,) dB, each image on its own, `image` clamped first; at most `PSNR_CEILING`."""
    return (10.0 * torch.log10(4.0 / mean_squared_error(image, target))).clamp_max(PSNR_CEILING)


def ssim(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) in [-1, 1] -> (B,): structural similarity, differentiable, not clamped.

    Gaussian window 11 × 11 with σ 1.5, population covariance, the border without a full window left out, channels
    averaged: scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False)`. A picture
    smaller than the window is measured with the largest odd window that fits.
    """
    channels, height, width = image.shape[1:]
    size = min(SSIM_WINDOW, height - 1 + height % 2, width - 1 + width % 2)
    offsets = torch.arange(size, dtype=torch.float32, device=image.device) - (size - 1) / 2
    window = torch.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    window = (window / window.sum()).to(image.dtype)

    def blur(x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        return F.conv2d(x, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)

    mean_x, mean_y = blur(image), blur(target)
    variance_x = blur(image * image) - mean_x.square()
    variance_y = blur(target * target) - mean_y.square()
    covariance = blur(image * target) - mean_x * mean_y
    c1, c2 = (0.01 * 2.0) ** 2, (0.03 * 2.0) ** 2  # for a range of 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2)
    )
    return similarity.flatten(1).mean(1)


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> uint8 [0, 255], clamped and rounded to the nearest level (torch's half-to-even)."""
    return ((image.float().clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)


def from_uint8(image: torch.Tensor) -> torch.Tensor:
    """uint8 [0, 255] -> fp32 [-1, 1]: x / 127.5 − 1, the convention of diffusers and vae-toolkit."""
    return image.to(torch.float32) / 127.5 - 1.0


def quality(image: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    """`psnr`, `ssim` and, of the picture rounded to 8 bits, `psnr_8bit`, `ssim_8bit`; each (B,) fp32."""
    clamped, rounded = image.float().clamp(-1, 1), from_uint8(to_uint8(image))
    return {
        "psnr": psnr(clamped, target),
        "ssim": ssim(clamped, target),
        "psnr_8bit": psnr(rounded, target),
        "ssim_8bit": ssim(rounded, target),
    }
