"""The loss of the VAE: MSE + kl_weight · KL, and where they are asked for LPIPS and the error of Fourier magnitudes."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ....engine.errors import UsageError, WeightsUnavailableError
from ....engine.losses import perceptual
from .settings import VAESettings

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution


def fft_magnitude_mse(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of the magnitudes of the orthonormal 2-D Fourier transform, a scalar.

    reconstruction, target: (B, C, H, W); the transform is computed in fp32. By Parseval's theorem it is on the scale of the
    MSE and at most that of the whole spectrum; phases, that is where structure lies, do not count.
    """
    found, wanted = (torch.fft.fft2(x.float(), norm="ortho").abs() for x in (reconstruction, target))
    return F.mse_loss(found, wanted)


class VAELoss:
    """`loss(reconstruction, target, posterior)` returns the terms and, as `loss`, their weighted sum."""

    def __init__(self, settings: VAESettings, device: torch.device) -> None:
        """Load LPIPS where it is asked for. Raises `UsageError` or `WeightsUnavailableError` where it is not there."""
        self.settings = settings
        if settings.use_lpips:
            try:
                perceptual.require_network((settings.resolution,) * 2, device)
            except (UsageError, WeightsUnavailableError) as error:
                reason = str(error).removeprefix("loss_function: ")
                raise type(error)(f"use_lpips: {reason}; or train without it: --no-use_lpips") from error

    def __call__(
        self, reconstruction: Tensor, target: Tensor, posterior: "DiagonalGaussianDistribution"
    ) -> dict[str, Tensor]:
        """Return scalars, in fp32: `loss`, `mse`, `kl` (nats per picture), and `lpips` and `fft` where they have a weight.

        reconstruction, target: (B, 3, R, R) in [−1, 1]. posterior: of the encoder, of the same pictures.
        """
        settings, reconstruction = self.settings, reconstruction.float()
        terms = {"mse": F.mse_loss(reconstruction, target), "kl": _kl(posterior)}
        loss = terms["mse"] + settings.kl_weight * terms["kl"]
        if settings.use_lpips:
            terms["lpips"] = perceptual.lpips(reconstruction, target).mean()
            loss = loss + settings.lpips_weight * terms["lpips"]
        if settings.fft_weight:
            terms["fft"] = fft_magnitude_mse(reconstruction, target)
            loss = loss + settings.fft_weight * terms["fft"]
        return {"loss": loss, **terms}


def _kl(posterior: "DiagonalGaussianDistribution") -> Tensor:
    """Mean over the batch of the divergence from a standard normal distribution, summed over a picture's latents, in fp32.

    Not `posterior.kl()`: under autocast in 16 bits its sum over thousands of values would be rounded.
    """
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).flatten(1).sum(1).mean()
