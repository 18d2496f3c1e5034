"""`relatent.encode`, which takes the place of `vae.encode`."""

import torch

from ..autoencoders.loading import load_autoencoder
from ..errors import UsageError
from .checks import check_tensors
from .config import OptimizationConfig
from .optimizer import LatentOptimizer


def encode(
    vae: object,
    images: torch.Tensor,
    config: OptimizationConfig | str | None = None,
    *,
    weights: torch.Tensor | None = None,
    check_range: bool = True,
) -> torch.Tensor:
    """Return latents that decode closer to `images` than those of `vae.encode(images).latent_dist.mode()`, in whose place they go.

    vae: an `Autoencoder` or anything `load_autoencoder` takes. images: (B, 3, H, W) in [-1, 1], sides whole numbers of
    latent cells. config: the settings, or a preset's name such as "fast". weights: (B, 1, H, W) ≥ 0, how much each
    pixel counts. Returns (B, C, h, w) fp32, unscaled: multiply by `scaling_factor` where a diffusion model wants that.
    Raises `UsageError` for wrong shapes or ranges (`check_range=False` admits pictures without dark pixels).
    """
    autoencoder = load_autoencoder(vae)
    check_tensors(images=images)
    if check_range:
        autoencoder.modality.check_targets(images, "images")
    factor = autoencoder.downscale_factor or 1
    if images.ndim == 4 and any(side % factor for side in images.shape[2:]):
        raise UsageError(
            f"images: one latent cell is {factor} pixels, found sides {tuple(images.shape[2:])}; crop or pad them"
        )
    initial = autoencoder.encode(images.to(autoencoder.device))
    results = LatentOptimizer(config).optimize_batch(
        autoencoder, initial, images, weights=weights, encoded=initial, check_range=False
    )
    return torch.cat([result.optimized_latents for result in results])
