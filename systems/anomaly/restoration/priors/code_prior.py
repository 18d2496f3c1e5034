"""A prior over codes: which code a place of the latent has, given the codes around it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nearest_code import nearest


class CodeContext(nn.Module):
    """Predicts each place's code from the codes around it and from where it is: (B, dim, d, h, w) codes -> logits (B, K, d, h, w).

    The first convolution does not see its own centre, and the others have kernels of one voxel, so no place sees itself.
    """

    def __init__(self, codes: int, dim: int, *grid: int, width: int = 64, reach: int = 2) -> None:
        """grid: d, h, w, which the prior is made for. reach: how far a place looks, in latent positions."""
        super().__init__()
        self.neighbours = nn.Conv3d(dim, width, 2 * reach + 1, padding=reach)
        self.position = nn.Parameter(torch.zeros(1, width, *grid))
        self.head = nn.Sequential(nn.SiLU(), nn.Conv3d(width, width, 1), nn.SiLU(), nn.Conv3d(width, codes, 1))
        self.reach = reach

    def forward(self, codes: Tensor) -> Tensor:
        kernel = self.neighbours.weight.clone()
        kernel[:, :, self.reach, self.reach, self.reach] = 0
        seen = F.conv3d(codes, kernel, self.neighbours.bias, padding=self.reach)
        return self.head(seen + self.position)


class CodePrior(nn.Module):
    """Negative log probability, under the codes around it, of the codes that a latent vector may stand for; nats per place.

    A vector z stands for code k by N(z; e_k, s²): the penalty is −log Σ_k p(k | codes around) exp(−‖z − e_k‖² / 2s²), averaged
    over the places and divided by dim. The codes around are those nearest to the latents, without a gradient.
    """

    def __init__(self, codebook: Tensor, context: CodeContext, spread: float) -> None:
        """codebook: (K, dim) fp32. spread: s, the distance per dimension of latents to their codes, in units of the latents."""
        super().__init__()
        self.codebook: Tensor
        self.spread: Tensor
        self.register_buffer("codebook", codebook.detach().float().clone())
        self.register_buffer("spread", torch.tensor(spread))
        self.context = context.eval().requires_grad_(False)

    @classmethod
    def fit(
        cls, codebook: Tensor, indices: Tensor, spread: float, epochs: int = 60, batch_size: int = 16, seed: int = 0
    ) -> "CodePrior":
        """Fit to (N, d, h, w) int64 code indices of normal volumes, by the pseudo-likelihood of every place."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            context = CodeContext(*codebook.shape, *indices.shape[1:])
            optimizer = torch.optim.AdamW(context.parameters(), 2e-3, weight_decay=1e-2)
            steps = epochs * -(-len(indices) // batch_size)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(epochs):
                for batch in torch.randperm(len(indices)).split(batch_size):
                    codes = F.embedding(indices[batch], codebook).movedim(-1, 1)
                    optimizer.zero_grad()
                    F.cross_entropy(context(codes), indices[batch]).backward()
                    optimizer.step()
                    schedule.step()
        return cls(codebook, context, spread)

    def forward(self, latents: Tensor, initial: Tensor, step: Tensor | None = None) -> Tensor:
        """(B, dim, d, h, w) -> (B,)."""
        vectors = latents.movedim(1, -1)
        codes = F.embedding(nearest(self.codebook, vectors.detach()), self.codebook).movedim(-1, 1)
        prior = self.context(codes).log_softmax(1).movedim(1, -1)
        distance = (
            vectors.square().sum(-1, keepdim=True) - 2 * vectors @ self.codebook.T + self.codebook.square().sum(1)
        )
        likelihood = prior - distance / (2 * self.spread**2)
        return -likelihood.logsumexp(-1).flatten(1).mean(1) / vectors.shape[-1]
