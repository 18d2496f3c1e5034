"""Mean, standard deviation and kurtosis of values that arrive in parts, without keeping the values.

The central moments of two parts merge exactly: Pébay, "Formulas for robust, one-pass parallel computation of
covariances and arbitrary-order statistical moments", SAND2008-6212, 2008, equations 2.1 to 2.4.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Moments of C channels: `count` values per channel, their mean (C,), and the sums of the 2nd, 3rd and 4th powers
    of the deviations from it (C,), all in fp64.
    """

    count: int
    mean: np.ndarray
    m2: np.ndarray
    m3: np.ndarray
    m4: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Moments":
        """Return the moments of (C, n) values of any dtype, computed in fp64."""
        wide = values.astype(np.float64)
        mean = wide.mean(1)
        deviation = wide - mean[:, None]
        squares = deviation**2
        return cls(wide.shape[1], mean, squares.sum(1), (squares * deviation).sum(1), (squares**2).sum(1))

    def state(self) -> list[Any]:
        """Return the moments as JSON-compatible values."""
        return [self.count, *(part.tolist() for part in (self.mean, self.m2, self.m3, self.m4))]

    @classmethod
    def from_state(cls, state: list[Any]) -> "Moments":
        """Return the moments from what `state` returned."""
        return cls(state[0], *(np.array(part) for part in state[1:]))

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both parts together."""
        a, b, n = self.count, other.count, self.count + other.count
        d = other.mean - self.mean
        return Moments(
            n,
            self.mean + d * b / n,
            self.m2 + other.m2 + d**2 * a * b / n,
            self.m3 + other.m3 + d**3 * a * b * (a - b) / n**2 + 3 * d * (a * other.m2 - b * self.m2) / n,
            self.m4 + other.m4 + d**4 * a * b * (a * a - a * b + b * b) / n**3
            + 6 * d**2 * (a * a * other.m2 + b * b * self.m2) / n**2 + 4 * d * (a * other.m3 - b * self.m3) / n,
        )  # fmt: skip

    def pooled(self) -> "Moments":
        """Return the moments of the values of all channels together, as one channel."""
        first, *rest = (
            Moments(self.count, *(part[i : i + 1] for part in (self.mean, self.m2, self.m3, self.m4)))
            for i in range(len(self.mean))
        )
        for part in rest:
            first = first.merge(part)
        return first

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation, (C,)."""
        return np.sqrt(self.m2 / self.count)

    @property
    def kurtosis(self) -> np.ndarray:
        """Excess kurtosis n·m4/m2² − 3, (C,): 0 for a normal distribution, NaN for values that are all equal."""
        flat = self.m2 / self.count <= (np.finfo(np.float64).eps * self.mean) ** 2
        return np.where(flat, np.nan, self.count * self.m4 / np.where(flat, 1.0, self.m2) ** 2 - 3.0)
