"""The latent report of a run: statistics of the encoder's latents and of the optimised ones, side by side.

The report answers whether an optimised latent is still a good training target. Beside the reconstruction error, four
properties make a latent hard for a diffusion model: strong high frequencies (Skorokhodov et al., "Improving the
Diffusability of Autoencoders", 2025, arXiv 2502.14831), outliers, a decoder that amplifies small errors, and a decoder that
is far from linear between two latents (`decoded_sample.py`); `latent_verdict.py` judges. All statistics are accumulated
image by image, so that memory does not grow with the length of a run, and the reports of the parts of a run merge into the
report of the whole run.
"""

import logging
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autoencoders.autoencoder import Autoencoder
from ..records import Record
from .decoded_sample import Figures, Kept, Sample, mean_figures
from .latent_verdict import against_encoder, verdict
from .moments import Moments
from .spectrum import Spectrum

logger = logging.getLogger(__name__)

# The largest number of images (the first of the run) that are decoded again with rounded and with noisy latents.
SAMPLE = 4
ONE_IN = 8  # At most one image in this many is decoded again, so that the report costs little even in the shortest run.
OUTLIER = 4.0  # Threshold in σ; 6e-5 of the values of a normal distribution lie beyond it.
MIN_STD = 1e-3  # Lower bound of the standard deviation for a constant latent, as in the optimisation loop.

SUMS = ("count", "sigmas", "distances")  # The fields of a report that are summed over the parts of a run.
# The fields of a `_Side`, grouped by how two parts are merged: minimum, maximum, sum.
LEAST, MOST, COUNTS = ("least", "least_sigma"), ("most", "most_sigma"), ("outliers", "values")


class _Side:
    """Accumulated statistics of one kind of latents: the encoder's or the optimised ones."""

    def __init__(self) -> None:
        self.moments: Moments | None = None
        self.spectrum = Spectrum()
        self.least, self.most = math.inf, -math.inf
        self.least_sigma, self.most_sigma = math.inf, -math.inf
        self.outliers = self.values = 0

    def add(self, latents: np.ndarray, middle: np.ndarray, sigma: np.ndarray) -> None:
        """Add a batch of latents.

        latents: (B, C, *spatial), fp64. middle, sigma: (B, 1, …), mean and standard deviation of the initial latents of
        those images.
        """
        channels = latents.shape[1]
        moments = Moments.of(np.moveaxis(latents, 1, 0).reshape(channels, -1))
        self.moments = moments if self.moments is None else self.moments.merge(moments)
        self.spectrum.add(latents - latents.mean(_inner(latents, 2), keepdims=True))
        relative = (latents - middle) / sigma
        self.least, self.most = min(self.least, float(latents.min())), max(self.most, float(latents.max()))
        self.least_sigma = min(self.least_sigma, float(relative.min()))
        self.most_sigma = max(self.most_sigma, float(relative.max()))
        self.outliers += int((np.abs(relative) > OUTLIER).sum())
        self.values += latents.size

    def state(self) -> dict[str, Any]:
        """Return the statistics as JSON-compatible values, for `merge`."""
        moments = None if self.moments is None else self.moments.state()
        numbers = {name: getattr(self, name) for name in (*LEAST, *MOST, *COUNTS)} if moments else {}
        return {"moments": moments, "spectrum": self.spectrum.state(), **numbers}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the statistics of another part of the run, given by its `state`."""
        if state["moments"] is None:
            return
        moments = Moments.from_state(state["moments"])
        self.moments = moments if self.moments is None else self.moments.merge(moments)
        self.spectrum.merge(state["spectrum"])
        for names, join in ((LEAST, min), (MOST, max), (COUNTS, operator.add)):
            for name in names:
                setattr(self, name, join(getattr(self, name), state[name]))

    def summary(self) -> dict[str, Any]:
        """Return the figures that `LatentReport.summary` holds for this kind of latents; empty before the first batch."""
        if self.moments is None:
            return {}
        pooled = self.moments.pooled()
        return {
            "mean": pooled.mean[0],
            "std": pooled.std[0],
            "kurtosis": pooled.kurtosis[0],
            "min": self.least,
            "max": self.most,
            "min_sigma": self.least_sigma,
            "max_sigma": self.most_sigma,
            "beyond_4_sigma": self.outliers / self.values,
            "channel_mean": self.moments.mean,
            "channel_std": self.moments.std,
            "channel_kurtosis": self.moments.kurtosis,
            "spectrum": self.spectrum.power,
            "high_frequency_share": self.spectrum.high_share,
        }


class LatentReport:
    """Statistics of the latents of a run, accumulated from its records.

    Call `add` for every batch of records, `decode` once at the end, then `summary` for the figures or `state` for
    another report to merge. No method raises: an error is logged and recorded in the figures under `error`.
    """

    def __init__(self, masked: bool = False) -> None:
        """masked: the metrics of the records are of what their masks leave."""
        self.masked = masked
        self.initial, self.optimized, self.change = _Side(), _Side(), Spectrum()
        self.count, self.sigmas = 0, 0.0
        self.distances, self.farthest = 0.0, 0.0
        self.sample: list[Sample] = []
        self.sampled = self.pairs = (
            0  # The number of images of the sample that were decoded, and of those with a neighbour.
        )
        self.decoded: dict[str, Figures] = {}
        self.error: str | None = None

    def add(self, records: Sequence[Record]) -> None:
        """Add finished images, all of one shape. Only the latents of the sample are kept."""
        try:
            if records:
                self._add(records)
        except Exception as error:
            self._fail(error)

    def _add(self, records: Sequence[Record]) -> None:
        initial = np.stack([record.initial_latents for record in records]).astype(np.float64)
        optimized = np.stack([record.optimized_latents for record in records]).astype(np.float64)
        inner = _inner(initial, 1)
        middle = initial.mean(inner, keepdims=True)
        sigma = np.maximum(initial.std(inner, keepdims=True), MIN_STD)
        change = optimized - initial
        self.initial.add(initial, middle, sigma)
        self.optimized.add(optimized, middle, sigma)
        self.change.add(change)
        distances = np.sqrt(np.square(change).mean(inner)) / sigma.ravel()
        self.count += len(records)
        self.sigmas += float(sigma.sum())
        self.distances += float(distances.sum())
        self.farthest = max(self.farthest, float(distances.max()))
        for record, spread in zip(records, sigma.ravel().tolist(), strict=True):
            image = Kept.of(record, self.masked)
            if image is None:
                continue
            for sample in self.sample:
                sample.consider(image)
            if len(self.sample) < SAMPLE:
                new = Sample(image, spread)
                for sample in self.sample:
                    new.consider(sample.image)
                self.sample.append(new)

    def decode(self, autoencoder: Autoencoder, precision: str = "fp32") -> None:
        """Decode the sample again: what it loses to rounding and noise, and how it looks half way to its neighbours.

        precision: of the decoder for all but rounded latents, the loop's own: several times faster than fp32 where the
        processor has bf16. What rounding costs is too small for that, and is measured in fp32.
        """
        try:
            exact, fast = (autoencoder.loop_decoder(name) for name in ("fp32", precision))
            del self.sample[-(-self.count // ONE_IN) :]
            self.decoded = mean_figures([one.measure(exact, fast, autoencoder.device) for one in self.sample])
            self.sampled, self.pairs = len(self.sample), sum(one.neighbour is not None for one in self.sample)
        except Exception as error:
            self._fail(error)

    def state(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values, for `merge`; values that are not finite become null."""
        sums = {name: getattr(self, name) for name in SUMS}
        sides = {name: getattr(self, name).state() for name in ("initial", "optimized", "change")}
        return {**sums, **sides, "farthest": self.farthest, "sampled": self.sampled, "pairs": self.pairs,
                "decoded": _plain(self.decoded), "error": self.error}  # fmt: skip

    def merge(self, state: dict[str, Any]) -> None:
        """Add the `state` of another part of the run. The decoded sample of the first part that has one is kept."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + state[name])
        for name in ("initial", "optimized", "change"):
            getattr(self, name).merge(state[name])
        self.farthest = max(self.farthest, state["farthest"])
        self.error = self.error or state["error"]
        if not self.decoded:
            # shards of earlier versions hold the losses alone
            earlier = {side: {"psnr_loss": losses} for side, losses in state.get("psnr", {}).items()}
            self.decoded = state.get("decoded", earlier)
            self.sampled, self.pairs = state["sampled"], state.get("pairs", 0)

    def summary(self) -> dict[str, Any]:
        """Return what `run.json` holds under `latents` (docs/files.md), as JSON-compatible values.

        Null stands for what could not be measured. Empty before the first record.
        """
        if not self.count:
            return {} if self.error is None else {"error": self.error}
        found: dict[str, Any] = {"images": self.count, "sigma": self.sigmas / self.count}
        found["distance"] = {"mean": self.distances / self.count, "max": self.farthest}
        for name, side in (("initial", self.initial), ("optimized", self.optimized)):
            found[name] = side.summary() | self.decoded.get(name, {})
        found["change"] = {"spectrum": self.change.power, "high_frequency_share": self.change.high_share}
        if self.decoded:
            found |= {"sample": self.sampled, "pairs": self.pairs}
        if self.error is not None:
            found["error"] = self.error
        found = _plain(found)
        compared = _plain(against_encoder(found))
        return found | {"against_encoder": compared, "verdict": verdict(compared)}

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            logger.warning("the report on the latents is incomplete: %s: %s", type(error).__name__, error)
            self.error = f"{type(error).__name__}: {error}".splitlines()[0]


def _inner(latents: np.ndarray, first: int) -> tuple[int, ...]:
    """Return all axes from `first` on."""
    return tuple(range(first, latents.ndim))


def _plain(value: Any) -> Any:
    """Return numbers and arrays as JSON values: six significant digits, null for values that are not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
