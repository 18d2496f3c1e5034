"""How different the pictures of one user are, and whether pictures are copies of training pictures."""

from typing import Any

import numpy as np

NEAREST_PERCENTILE = 1.0  # of the distances of held-out pictures
COPY = 0.5  # of that percentile: what is nearer is called a copy


def within_user_diversity(features: np.ndarray, users: np.ndarray) -> dict[int, float]:
    """The mean Euclidean distance of two pictures of a user, in the features (N, F), for users with at least two."""
    found = {}
    for user in np.unique(users).tolist():
        own = features[users == user]
        if len(own) > 1:
            found[user] = float(_distances(own, own).sum() / (len(own) * (len(own) - 1)))
    return found


def nearest_distances(pictures: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each picture (N, R, R) the root mean square difference to the nearest training picture (M, R, R), (N,), and which it is, (N,) int64."""
    flat, known = (values.reshape(len(values), -1).astype(np.float32) for values in (pictures, training))
    distances = np.concatenate([_distances(part, known) for part in np.array_split(flat, -(-len(flat) // 256))])
    return distances.min(1) / np.sqrt(flat.shape[1]), distances.argmin(1)


def copies(generated: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """From the distances to the nearest training picture of generated, (N,), and of held-out real pictures, (M,).

    A copy is nearer than `COPY` times the distance that 1 % of the held-out ones are below: `copies` is the share of generated ones, `copied` has
    their indices.
    """
    threshold = COPY * float(np.percentile(held_out, NEAREST_PERCENTILE))
    return {
        "threshold": threshold,
        "copies": float((generated < threshold).mean()),
        "copies_of_held_out": float((held_out < threshold).mean()),
        "median_generated": float(np.median(generated)),
        "median_held_out": float(np.median(held_out)),
        "copied": np.flatnonzero(generated < threshold).tolist(),
    }


def _distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Euclidean, (N, M)."""
    squares = np.square(one).sum(1)[:, None] + np.square(two).sum(1)[None] - 2.0 * one @ two.T
    return np.sqrt(np.maximum(squares, 0.0))
