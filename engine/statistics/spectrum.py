"""How a latent's power is spread over spatial frequencies, radially averaged."""

from functools import lru_cache

import numpy as np

BANDS = 8  # equal steps of the radius from 0 to Nyquist, half a cycle per cell; the corners beyond are in the last


class Spectrum:
    """Power of latents in `BANDS` bands, over all channels and all latents added."""

    def __init__(self) -> None:
        self.sums, self.counts = np.zeros(BANDS), np.zeros(BANDS)

    def add(self, latents: np.ndarray) -> None:
        """(B, C, *spatial)."""
        cells = latents[0, 0].size
        power = np.abs(np.fft.fftn(latents.astype(np.float64), axes=tuple(range(2, latents.ndim)))) ** 2 / cells
        bands = _bands(latents.shape[2:])
        self.sums += np.bincount(bands, power.sum((0, 1)).ravel(), BANDS)
        self.counts += np.bincount(bands, minlength=BANDS) * (latents.shape[0] * latents.shape[1])

    def state(self) -> list[list[float]]:
        """As plain numbers, for `merge`."""
        return [self.sums.tolist(), self.counts.tolist()]

    def merge(self, state: list[list[float]]) -> None:
        """Add another's latents."""
        self.sums += state[0]
        self.counts += state[1]

    @property
    def power(self) -> np.ndarray:
        """(BANDS,) mean power per coefficient, in the latents' unit squared: white noise has its variance in each band.
        NaN for a band in which latents so small have no frequency."""
        return np.divide(self.sums, self.counts, out=np.full(BANDS, np.nan), where=self.counts > 0)

    @property
    def high_share(self) -> float:
        """The fraction of all power beyond half of Nyquist: 1 − π/16 = 0.80 for white noise in two dimensions. NaN
        without power."""
        total = self.sums.sum()
        return float(self.sums[BANDS // 2 :].sum() / total) if total > 0 else float("nan")


@lru_cache(maxsize=8)
def _bands(shape: tuple[int, ...]) -> np.ndarray:
    """The band of each coefficient of a discrete Fourier transform of that shape, flat."""
    squares = sum(np.square(axis) for axis in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"))
    # frequencies that are a band's edge belong to the upper one, however their square root rounds
    return np.minimum(np.floor(np.sqrt(squares) * 2 * BANDS + 1e-9).astype(np.int64), BANDS - 1).ravel()
