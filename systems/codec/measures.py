"""What a compressed picture is judged by: its file's bytes and the decoded 8-bit picture."""

from dataclasses import dataclass

import torch

from ...engine.losses.metrics import PSNR_CEILING
from .bitstream.image_codec import Encoded


@dataclass(frozen=True)
class Measured:
    """Of one file."""

    bytes: int
    bpp: float  # bits of the whole file per pixel
    psnr: float  # dB, of the decoded picture against the original, both of 8 bits, all channels together
    rd_cost: float  # λ · 255² · MSE + bpp, MSE of pictures in [0, 1]


def measure(image: torch.Tensor, encoded: Encoded, lmbda: float) -> Measured:
    """Measures `encoded`, a compressed form of `image`, (3, H, W) uint8."""
    error = (image.to(torch.float64) - encoded.reconstruction.to(torch.float64)).square().mean()  # in 8-bit levels
    psnr = float((10 * torch.log10(255.0**2 / error)).clamp_max(PSNR_CEILING))
    return Measured(len(encoded.data), encoded.bpp, psnr, lmbda * float(error) + encoded.bpp)
