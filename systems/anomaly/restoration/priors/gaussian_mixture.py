"""A Gaussian mixture on the latent vectors of normal volumes."""

import math

import torch
from torch import Tensor


class GaussianMixturePrior:
    """Negative log likelihood of each latent vector, per dimension, averaged over the volume, in nats."""

    def __init__(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        """weights: (M,) of sum 1. means, variances: (M, dim); the covariances are diagonal."""
        self.weights, self.means, self.variances = weights, means, variances
        self.precisions = 1.0 / variances
        self.constants = weights.log() - 0.5 * (variances.log() + math.log(2 * math.pi)).sum(1)

    @classmethod
    def fit(cls, vectors: Tensor, components: int = 32, seed: int = 0) -> "GaussianMixturePrior":
        """Fit to (N, dim) vectors, N ≥ components, by expectation maximisation (scikit-learn's)."""
        from sklearn.mixture import GaussianMixture

        fitted = GaussianMixture(components, covariance_type="diag", reg_covar=1e-3, random_state=seed, max_iter=200)
        fitted.fit(vectors.double().numpy())
        return cls(*(torch.from_numpy(each).float() for each in (fitted.weights_, fitted.means_, fitted.covariances_)))

    def state(self) -> dict[str, Tensor]:
        """The tensors that `of_state` takes."""
        return {"weights": self.weights, "means": self.means, "variances": self.variances}

    @classmethod
    def of_state(cls, state: dict[str, Tensor]) -> "GaussianMixturePrior":
        """What `state` gave."""
        return cls(**{name: value.float() for name, value in state.items()})

    def __call__(self, latents: Tensor, initial: Tensor, step: Tensor | None = None) -> Tensor:
        """(B, dim, d, h, w) -> (B,)."""
        vectors = latents.movedim(1, -1).flatten(1, -2)  # (B, N, dim)
        weighted = self.means * self.precisions
        quadratic = vectors.square() @ self.precisions.T - 2 * vectors @ weighted.T + (self.means * weighted).sum(1)
        return -(self.constants - 0.5 * quadratic).logsumexp(-1).mean(1) / vectors.shape[-1]
