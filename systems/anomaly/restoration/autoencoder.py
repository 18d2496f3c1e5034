"""The VQ-VAE as the engine's loop takes it."""

from ....engine.autoencoders.autoencoder import Autoencoder
from ....engine.coordinates import Coordinates
from ..model.vqvae import VQVAE3D
from .volumes import Volumes


class VolumeAutoencoder(Autoencoder):
    """Latents (B, embedding_dim, d, h, w) fp32 are z_e, *before* the quantiser; outputs (B, 1, D, H, W) in [0, 1].

    The whitening calibration of 2-D latents does not apply: the encoder ends in a BatchNorm, so all channels of z_e have
    the same spread, and the latents themselves are what Adam moves.
    """

    def __init__(self, model: VQVAE3D, name: str = "vqvae-3d") -> None:
        """model: put in evaluation mode; its parameters stop asking for gradients."""
        super().__init__(
            model.decoder,
            model.encoder,
            name=name,
            latent_channels=model.config.embedding_dim,
            downscale_factor=model.config.factor,
            modality=Volumes(),
            coordinates=Coordinates(),
        )
        self.rewrites = ("fold_batch_norms", "freeze_convolutions")
