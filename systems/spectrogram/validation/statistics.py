"""Statistics of real against generated pictures: moments, histogram, GLCM, spectra, PCA with Mahalanobis distances, KS tests."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .measures import grey_histogram, scalars, spectra

COMPONENTS = 50


class PictureDistribution:
    """The principal components of pictures, (N, R, R), at most 50, and how they spread along them."""

    def __init__(self, grey: np.ndarray) -> None:
        from sklearn.decomposition import PCA

        flat = grey.reshape(len(grey), -1)
        count = min(COMPONENTS, len(flat) - 1, flat.shape[1])
        self.pca = PCA(count, whiten=True, svd_solver="randomized", random_state=0).fit(flat)

    def mahalanobis(self, grey: np.ndarray) -> np.ndarray:
        """Distance of each picture to the mean, in standard deviations: (N,). √50 on average of the pictures themselves."""
        return np.linalg.norm(self.pca.transform(grey.reshape(len(grey), -1)), axis=1)

    @property
    def explained(self) -> float:
        """The share of the variance in the components."""
        return float(self.pca.explained_variance_ratio_.sum())


@dataclass(frozen=True)
class Described:
    """What is compared of a set of pictures. grey: (N, R, R) in [0, 1]; users: (N,); values: of each measure, (N,)."""

    grey: np.ndarray
    users: np.ndarray
    values: dict[str, np.ndarray]

    @classmethod
    def of(cls, grey: np.ndarray, users: np.ndarray, distribution: PictureDistribution) -> "Described":
        return cls(grey, users, scalars(grey) | {"mahalanobis": distribution.mahalanobis(grey)})

    def of_user(self, user: int) -> "Described":
        own = self.users == user
        return Described(self.grey[own], self.users[own], {name: values[own] for name, values in self.values.items()})


def compare(real: Described, other: Described) -> dict[str, Any]:
    """Differences of two sets, all 0 for equal ones.

    `histogram_distance`: Jensen-Shannon, base 2, in [0, 1]. `spectrum_distance`: root mean square difference of the radial spectra in dB. `ks`: for
    each measure of pictures the largest difference of the cumulative distributions; `ks_p_values` take the pictures for independent, which those
    of one recording are not. `means`: of each measure, real and other.
    """
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import ks_2samp

    tests = {name: ks_2samp(values, other.values[name]) for name, values in real.values.items()}
    difference = spectra(real.grey)["radial"] - spectra(other.grey)["radial"]
    distance = float(jensenshannon(grey_histogram(real.grey), grey_histogram(other.grey), 2))
    return {
        "histogram_distance": 0.0 if np.isnan(distance) else distance,  # the root of a rounding error below 0
        "spectrum_distance": float(np.sqrt(np.mean(difference**2))),
        "ks": {name: float(test.statistic) for name, test in tests.items()},
        "ks_p_values": {name: float(test.pvalue) for name, test in tests.items()},
        "ks_mean": float(np.mean([test.statistic for test in tests.values()])),
        "means": {name: [float(v.mean()), float(other.values[name].mean())] for name, v in real.values.items()},
    }


def compare_users(real: Described, other: Described) -> dict[int, dict[str, Any]]:
    """`compare` for each user who is in both."""
    users = sorted({*real.users.tolist()} & {*other.users.tolist()})
    return {user: compare(real.of_user(user), other.of_user(user)) for user in users}
