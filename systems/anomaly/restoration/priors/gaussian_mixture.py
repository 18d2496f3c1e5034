"""A Gaussian mixture on the latent vectors of normal volumes."""

import math

import torch
from torch import Tensor, nn


class GaussianMixturePrior(nn.Module):
    """Negative log likelihood of each latent vector, per dimension, averaged over the volume, in nats."""

    def __init__(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        """weights: (M,) of sum 1. means, variances: (M, dim); the covariances are diagonal."""
        super().__init__()
        self.weights: Tensor
        self.means: Tensor
        self.variances: Tensor
        for name, value in {"weights": weights, "means": means, "variances": variances}.items():
            self.register_buffer(name, value.float())

    @classmethod
    def fit(cls, vectors: Tensor, components: int = 256, seed: int = 0) -> "GaussianMixturePrior":
        """Fit to (N, dim) vectors, N ≥ components, by expectation maximisation (scikit-learn's)."""
        from sklearn.mixture import GaussianMixture

        fitted = GaussianMixture(components, covariance_type="diag", reg_covar=1e-3, random_state=seed, max_iter=200)
        fitted.fit(vectors.double().numpy())
        return cls(*(torch.from_numpy(each).float() for each in (fitted.weights_, fitted.means_, fitted.covariances_)))

    def forward(self, latents: Tensor, initial: Tensor, step: Tensor | None = None) -> Tensor:
        """(B, dim, d, h, w) -> (B,)."""
        vectors = latents.movedim(1, -1).flatten(1, -2)  # (B, N, dim)
        precisions = 1.0 / self.variances
        weighted = self.means * precisions
        constants = self.weights.log() - 0.5 * (self.variances.log() + math.log(2 * math.pi)).sum(1)
        quadratic = vectors.square() @ precisions.T - 2 * vectors @ weighted.T + (self.means * weighted).sum(1)
        return -(constants - 0.5 * quadratic).logsumexp(-1).mean(1) / vectors.shape[-1]
