"""Radially averaged power spectrum of latents."""

from functools import lru_cache

import numpy as np

# Equal steps of the radial frequency from 0 to Nyquist (half a cycle per latent cell); the last band also takes the
# corners beyond Nyquist.
BANDS = 8


class Spectrum:
    """Power of latents in `BANDS` radial frequency bands, summed over all channels and all latents added."""

    def __init__(self) -> None:
        self.sums, self.counts = np.zeros(BANDS), np.zeros(BANDS)

    def add(self, latents: np.ndarray) -> None:
        """Add latents (B, C, *spatial)."""
        cells = latents[0, 0].size
        power = np.abs(np.fft.fftn(latents.astype(np.float64), axes=tuple(range(2, latents.ndim)))) ** 2 / cells
        bands = _bands(latents.shape[2:])
        self.sums += np.bincount(bands, power.sum((0, 1)).ravel(), BANDS)
        self.counts += np.bincount(bands, minlength=BANDS) * (latents.shape[0] * latents.shape[1])

    def state(self) -> list[list[float]]:
        """Return the sums as JSON-compatible values, for `merge`."""
        return [self.sums.tolist(), self.counts.tolist()]

    def merge(self, state: list[list[float]]) -> None:
        """Add the latents of another spectrum, given by its `state`."""
        self.sums += state[0]
        self.counts += state[1]

    @property
    def power(self) -> np.ndarray:
        """Mean power per Fourier coefficient, (BANDS,), in the squared unit of the latents.

        White noise has its variance in every band. NaN for a band without any frequency, which happens for small
        latents.
        """
        return np.divide(self.sums, self.counts, out=np.full(BANDS, np.nan), where=self.counts > 0)

    @property
    def high_share(self) -> float:
        """The fraction of all power above half of Nyquist: 1 − π/16 = 0.80 for white noise in two dimensions.

        NaN where there is no power at all.
        """
        total = self.sums.sum()
        return float(self.sums[BANDS // 2 :].sum() / total) if total > 0 else float("nan")


@lru_cache(maxsize=8)
def _bands(shape: tuple[int, ...]) -> np.ndarray:
    """Return the band of each coefficient of a discrete Fourier transform of that shape, flattened."""
    squares = sum(np.square(axis) for axis in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"))
    # A frequency on the edge of a band belongs to the upper one, however its square root is rounded.
    return np.minimum(np.floor(np.sqrt(squares) * 2 * BANDS + 1e-9).astype(np.int64), BANDS - 1).ravel()
