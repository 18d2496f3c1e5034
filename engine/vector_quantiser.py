"""The vector quantiser: each vector of a latent becomes its nearest code.

The package vector-quantize-pytorch is not used: with a codebook that is learned by gradients it has one weight for the
commitment and none for the codebook, it reports no perplexity, and its threshold for dead codes is an absolute number of
uses per step, whereas a step of the volumes has 32 vectors at 32³ and 2048 at 128³.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


class Quantised(NamedTuple):
    """What the quantiser returns."""

    quantised: Tensor  # (B, dim, *axes) fp32; its gradient goes to the input unchanged
    vq_loss: Tensor  # scalar
    perplexity: Tensor  # scalar, 1 to K: how many codes are used, weighted by how often
    indices: Tensor  # (B, *axes) int64


class VectorQuantiser(nn.Module):
    """K codes of `dim` values, learned by gradients or, with `use_ema`, as running means of the vectors they stand for.

    The first batch in training mode gives the first codes: small random codes would all lie nearer to the origin than
    to any vector, and a few of them would win every time. With EMA, codes that are hardly used are replaced by vectors
    of the batch. The codebook is a parameter in both cases; with EMA it takes no gradient.
    """

    def __init__(
        self,
        num_embeddings: int = 512,
        embedding_dim: int = 256,
        commitment_cost: float = 0.25,
        use_ema: bool = False,
        ema_decay: float = 0.99,
        dead_code_share: float = 0.1,
    ) -> None:
        super().__init__()
        self.commitment_cost, self.use_ema = commitment_cost, use_ema
        self.ema_decay, self.dead_code_share = ema_decay, dead_code_share
        self.codebook = nn.Parameter(torch.randn(num_embeddings, embedding_dim), requires_grad=not use_ema)
        self.initialised: Tensor
        self.share: Tensor
        self.mean_sum: Tensor
        self.register_buffer("initialised", torch.tensor(False))
        if use_ema:
            # of all vectors, running; it begins low, so that new codes move soon, and are replaced soon if none needs them:
            # after 69 steps with a decay of 0.99
            self.new_share = min(1.0, 2 * dead_code_share or 1.0) / num_embeddings
            self.register_buffer("share", torch.full((num_embeddings,), self.new_share))
            self.register_buffer("mean_sum", self.codebook.detach() * self.new_share)  # share × mean vector, running

    def forward(self, z_e: Tensor) -> Quantised:
        """Quantise (B, dim, *axes), with any number of spatial axes. Without autocast: in half precision the nearest of two codes may be the other."""
        with torch.autocast(z_e.device.type, enabled=False):
            vectors = z_e.float().movedim(1, -1)
            flat = vectors.detach().reshape(-1, vectors.shape[-1])
            if self.training and not self.initialised:
                self._initialise(flat)
            indices = self.nearest(flat)
            codes = F.embedding(indices, self.codebook).view_as(vectors)
            loss = self.commitment_cost * F.mse_loss(vectors, codes.detach())
            if not self.use_ema:
                loss = loss + F.mse_loss(codes, vectors.detach())
            shares = torch.bincount(indices, minlength=len(self.codebook)) / len(indices)
            perplexity = torch.exp(torch.special.entr(shares).sum())
            if self.training and self.use_ema:
                self._update(flat, indices, shares)
            quantised = vectors + (codes - vectors).detach()
        return Quantised(quantised.movedim(-1, 1), loss, perplexity, indices.view(vectors.shape[:-1]))

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """The index of the code nearest to each of (N, dim) vectors, (N,) int64."""
        return (self.codebook.square().sum(1) - 2 * vectors @ self.codebook.T).argmin(1)

    def _draw(self, vectors: Tensor, count: int) -> Tensor:
        """`count` of the vectors, each as seldom as can be; repeated ones differ by a little noise, as equal codes would
        never both be used.
        """
        order = torch.cat([torch.randperm(len(vectors)) for _ in range(-(-count // len(vectors)))])[:count]
        drawn = vectors[order.to(vectors.device)]
        return drawn + 0.01 * vectors.std() * torch.randn_like(drawn) if count > len(vectors) else drawn

    @torch.no_grad()
    def _initialise(self, vectors: Tensor) -> None:
        self.codebook.copy_(self._draw(vectors, len(self.codebook)))
        if self.use_ema:
            self.mean_sum.copy_(self.share[:, None] * self.codebook)
        self.initialised.fill_(True)

    @torch.no_grad()
    def _update(self, vectors: Tensor, indices: Tensor, shares: Tensor) -> None:
        sums = torch.zeros_like(self.codebook).index_add_(0, indices, vectors) / len(vectors)
        self.share.lerp_(shares, 1 - self.ema_decay)
        self.mean_sum.lerp_(sums, 1 - self.ema_decay)
        count = len(self.codebook)
        dead = (self.share < self.dead_code_share / count).nonzero()[:, 0]
        if len(dead):
            self.share[dead] = self.new_share
            self.mean_sum[dead] = self._draw(vectors, len(dead)) * self.new_share
        self.codebook.copy_(self.mean_sum / self.share.clamp_min(EPSILON / count)[:, None])
