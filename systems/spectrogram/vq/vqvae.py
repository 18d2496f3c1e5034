"""The VQ-VAE of spectrograms (van den Oord et al. 2017): diffusers' encoder and decoder, and the engine's quantiser between them."""

import math

from diffusers.models.autoencoders.vae import Decoder, Encoder
from torch import Tensor, nn

from ....engine.vector_quantiser import Quantised, VectorQuantiser
from .settings import VQVAESettings


class VQVAE(nn.Module):
    """Pictures (B, 3, R, R) in [−1, 1] to codes (B, R/f, R/f) and back, f being `settings.downscale_factor`.

    What leaves the encoder has mean 0 and variance 1 in each channel: without a scale of its own the encoder cannot lower the
    commitment loss by shrinking all latents. diffusers' VQModel is not used: its codes are learned by gradients and die.
    """

    def __init__(self, settings: VQVAESettings) -> None:
        super().__init__()
        channels, dim = settings.block_out_channels, settings.embedding_dim
        shared = {
            "block_out_channels": channels,
            "layers_per_block": settings.layers_per_block,
            "norm_num_groups": math.gcd(32, *channels),
        }
        down = ("DownEncoderBlock2D",) * len(channels)
        self.encoder = Encoder(3, dim, down, double_z=False, **shared)  # type: ignore[arg-type]
        self.norm = nn.BatchNorm2d(dim, affine=False)
        self.quantiser = VectorQuantiser(
            settings.num_embeddings, dim, settings.commitment_cost, use_ema=True, ema_decay=settings.ema_decay
        )
        self.decoder = Decoder(dim, 3, ("UpDecoderBlock2D",) * len(channels), **shared)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantised]:
        """The reconstruction, shaped as the pictures, and the quantised latents with their loss."""
        quantised = self.quantiser(self.norm(self.encoder(pictures)))
        return self.decoder(quantised.quantised), quantised

    def encode(self, pictures: Tensor) -> Tensor:
        """Codes (B, R/f, R/f) int64."""
        codes: Tensor = self.quantiser(self.norm(self.encoder(pictures))).indices
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Pictures (B, 3, R, R), beyond [−1, 1] where the network says so, of codes (B, R/f, R/f) int64."""
        latents = nn.functional.embedding(codes, self.quantiser.codebook)
        pictures: Tensor = self.decoder(latents.movedim(-1, 1))
        return pictures
