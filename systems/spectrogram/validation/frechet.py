"""Fréchet distance and inception-like score on the own classifier's features: never to be called FID or IS."""

from collections.abc import Sequence

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) of features (N, F) and (M, F), at least 2 each: the squared 2-Wasserstein distance of the normal
    distributions with their means and covariances (Dowson and Landau, 1982).

    It is too large for few features, as `frechet_by_size` shows.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(np.atleast_2d(one))
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    # the eigenvalues of Σ₁Σ₂ are those of this symmetric matrix, so no root of it has an imaginary part
    product = np.linalg.eigvalsh(root @ np.atleast_2d(two) @ root)
    shift = np.square(first.mean(0) - second.mean(0)).sum()
    return float(max(shift + np.trace(one) + np.trace(two) - 2.0 * np.sqrt(np.maximum(product, 0.0)).sum(), 0.0))


def frechet_by_size(
    real: np.ndarray, generated: np.ndarray, sizes: Sequence[int], repeats: int = 5, seed: int = 0
) -> list[dict[str, float]]:
    """At each size n up to half of the real features: the distance of n real ones to n other real ones, and to n generated ones.

    Both are means over draws without replacement, so what the first is above 0 is bias, the second has it too, and their difference compares.
    """
    random = np.random.default_rng(seed)
    rows = []
    for size in sizes:
        control, found = [], []
        for _ in range(repeats):
            order = random.permutation(len(real))
            control.append(frechet_distance(real[order[:size]], real[order[size : 2 * size]]))
            found.append(frechet_distance(real[order[:size]], generated[random.permutation(len(generated))[:size]]))
        rows.append({"size": size, "real": float(np.mean(control)), "generated": float(np.mean(found))})
    return rows


def sizes_up_to(largest: int) -> list[int]:
    """Halves of `largest`, down to 8, in rising order."""
    sizes = [largest]
    while sizes[-1] // 2 >= 8 and len(sizes) < 4:
        sizes.append(sizes[-1] // 2)
    return sizes[::-1]


def inception_like_score(probabilities: np.ndarray) -> float:
    """exp of the mean KL divergence of p(user | picture) from the mean p(user); from 1 to the number of users. (N, U)."""
    p = np.maximum(probabilities, 1e-12)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))
