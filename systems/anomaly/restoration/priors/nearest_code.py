"""The distance of latents to the codebook."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NearestCode(nn.Module):
    """Mean squared distance of each latent vector to its nearest code: the codes stand for what normal volumes have."""

    def __init__(self, codebook: Tensor) -> None:
        """codebook: (K, dim) fp32."""
        super().__init__()
        self.codebook: Tensor
        self.register_buffer("codebook", codebook.detach().float().clone())

    def forward(self, latents: Tensor, initial: Tensor, step: Tensor | None = None) -> Tensor:
        """(B, dim, d, h, w) -> (B,), in squared units of the latents."""
        vectors = latents.movedim(1, -1)
        codes = F.embedding(nearest(self.codebook, vectors.detach()), self.codebook)
        return (vectors - codes).square().flatten(1).mean(1)


@torch.no_grad()
def nearest(codebook: Tensor, vectors: Tensor) -> Tensor:
    """The index of the code nearest to each of (..., dim) vectors, (...) int64."""
    return (codebook.square().sum(1) - 2 * vectors @ codebook.T).argmin(-1)
