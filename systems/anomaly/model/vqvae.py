"""The 3-D VQ-VAE: an encoder that halves the volume four times, a vector quantiser, a decoder."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ....engine.errors import UsageError
from ....engine.vector_quantiser import Quantised, VectorQuantiser
from .configuration import VQVAEConfig


class Reconstruction(NamedTuple):
    """What the model returns."""

    reconstruction: Tensor  # (B, C, D, H, W) in [0, 1]
    vq_loss: Tensor  # scalar
    perplexity: Tensor  # scalar
    indices: Tensor  # (B, D/16, H/16, W/16) int64


class VQVAE3D(nn.Module):
    """A VQ-VAE of volumes (B, C, D, H, W) in [0, 1] whose sides are multiples of `config.factor`.

    No convolution has a bias and no normalisation a scale and shift: so counted, the specified model has exactly
    11,602,784 parameters, the codebook of 512 × 256 among them. What leaves the encoder has mean 0 and variance 1.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        down = (config.in_channels, *config.hidden_channels)
        up = (config.embedding_dim, *reversed(config.hidden_channels))
        self.encoder = nn.Sequential(
            *(_block(nn.Conv3d, *pair, config.dropout) for pair in pairwise(down)),
            nn.Conv3d(down[-1], config.embedding_dim, 3, padding=1, bias=False),
            nn.BatchNorm3d(config.embedding_dim, affine=False),
        )
        self.quantiser = VectorQuantiser(
            config.num_embeddings,
            config.embedding_dim,
            config.commitment_cost,
            config.use_ema,
            config.ema_decay,
            config.dead_code_share,
        )
        self.decoder = nn.Sequential(
            *(_block(nn.ConvTranspose3d, *pair, config.dropout) for pair in pairwise(up)),
            nn.Conv3d(up[-1], config.in_channels, 3, padding=1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Reconstruction:
        """Encode, quantise, decode. Raises `UsageError` for shapes that do not fit."""
        quantised = self.quantise(self.encode(x))
        return Reconstruction(self.decode(quantised.quantised), *quantised[1:])

    def encode(self, x: Tensor) -> Tensor:
        """z_e, the latent *before* the quantiser, (B, embedding_dim, D/16, H/16, W/16)."""
        factor, channels = self.config.factor, self.config.in_channels
        if x.ndim != 5 or x.shape[1] != channels or any(side % factor or not side for side in x.shape[2:]):
            raise UsageError(f"volumes are (B, {channels}, D, H, W), sides multiples of {factor}; got {tuple(x.shape)}")
        x = self.encoder[:-2](x)
        # in fp32: in bf16 on processors, torch 2.15 leaves most of the gradient of this convolution's weight uninitialised
        # where the sides are 2
        with torch.autocast("cpu", enabled=False):
            return self.encoder[-2:](x.float())

    def quantise(self, z_e: Tensor) -> Quantised:
        """z_q with its loss, perplexity and indices."""
        return self.quantiser(z_e)

    def decode(self, z_q: Tensor) -> Tensor:
        """The volume (B, C, D, H, W) in [0, 1] of a latent, quantised or not."""
        return self.decoder(z_q)

    @torch.no_grad()
    def get_reconstruction_error(self, x: Tensor, reduction: str = "none") -> Tensor:
        """|x − x̂| in evaluation mode: every voxel's (`none`, the shape of x), or each volume's `mean` or `sum`, (B,)."""
        if reduction not in ("none", "mean", "sum"):
            raise UsageError(f"reduction is {reduction!r}; give none, mean or sum")
        before = self.training
        self.eval()
        try:
            error = (x - self(x).reconstruction).abs()
        finally:
            self.train(before)
        return error if reduction == "none" else getattr(error.flatten(1), reduction)(1)

    def get_codebook_usage(self, indices: Tensor) -> float:
        """The share of the codes, 0 to 1, that are among `indices`."""
        return len(indices.unique()) / self.config.num_embeddings


def build_vqvae_3d(config: Mapping[str, Any] | VQVAEConfig | None = None) -> VQVAE3D:
    """A new model with random weights. config: the keys of `VQVAEConfig`; those not given have the specified values."""
    return VQVAE3D(config if isinstance(config, VQVAEConfig) else VQVAEConfig.of(config or {}))


def _block(convolution: type[nn.Module], inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(outputs, affine=False),
        nn.LeakyReLU(0.2),
        nn.Dropout3d(dropout),
    )
