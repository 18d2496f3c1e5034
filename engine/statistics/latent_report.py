"""The latent report of a run: statistics of the encoder's latents and of the optimised ones, side by side.

The report answers whether an optimised latent is still a good training target. Beside the reconstruction error, three
properties make a latent hard for a diffusion model: strong high frequencies (Skorokhodov et al., "Improving the
Diffusability of Autoencoders", 2025, arXiv 2502.14831), outliers, and a decoder that amplifies small errors. All
statistics are accumulated image by image, so that memory does not grow with the length of a run, and the reports of the
parts of a run merge into the report of the whole run.
"""

import logging
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..autoencoders.autoencoder import Autoencoder
from ..loop_decoder import LoopDecoder
from ..losses.metrics import from_uint8, psnr
from ..records import Record
from .moments import Moments
from .spectrum import Spectrum

logger = logging.getLogger(__name__)

# The largest number of images (the first of the run) that are decoded again with rounded and with noisy latents.
SAMPLE = 4
ONE_IN = 8  # At most one image in this many is decoded again, so that the report costs little even in the shortest run.
NOISE = (0.01, 0.03, 0.1)  # Standard deviations of the added noise, relative to σ.
SEED = 0  # Seed of that noise: the same for every run, and for both latents of an image.
OUTLIER = 4.0  # Threshold in σ; 6e-5 of the values of a normal distribution lie beyond it.
MIN_STD = 1e-3  # Lower bound of the standard deviation for a constant latent, as in the optimisation loop.

SUMS = ("count", "sigmas", "distances")  # The fields of a report that are summed over the parts of a run.
# The fields of a `_Side`, grouped by how two parts are merged: minimum, maximum, sum.
LEAST, MOST, COUNTS = ("least", "least_sigma"), ("most", "most_sigma"), ("outliers", "values")

ROUNDINGS = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class _Sample:
    """One image that is decoded again, with both of its latents and the standard deviation of its initial latent."""

    initial: np.ndarray  # (C, h, w)
    optimized: np.ndarray
    picture: np.ndarray  # uint8 (H, W, 3)
    sigma: float
    recorded: dict[
        str, float
    ]  # Metrics of the whole picture, the decoder in fp32; empty where they are of a part of it.


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
        self.sample: list[_Sample] = []
        self.sampled = 0  # The number of images of the sample that were decoded.
        self.psnr: dict[str, dict[str, Any]] = {}
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
            picture = record.images.get("original", record.target)
            if len(self.sample) < SAMPLE and picture is not None:
                recorded = {} if self.masked else record.metrics
                self.sample.append(_Sample(record.initial_latents, record.optimized_latents, picture, spread, recorded))

    def decode(self, autoencoder: Autoencoder, precision: str = "fp32") -> None:
        """Decode the sample again, and measure how much PSNR it loses to rounded and to noisy latents.

        precision: of the decoder for noisy latents and what they are compared with, the loop's own: several times faster
        than fp32 where the processor has bf16. What rounding costs is too small for that, and is measured in fp32.
        """
        try:
            decoders = [autoencoder.loop_decoder(name) for name in ("fp32", precision)]
            del self.sample[-(-self.count // ONE_IN) :]
            rows = [
                [
                    _losses(decoders, one, one.initial, one.recorded.get("initial_psnr"), autoencoder.device),
                    _losses(decoders, one, one.optimized, one.recorded.get("final_psnr"), autoencoder.device),
                ]
                for one in self.sample
            ]
            for side, name in enumerate(("initial", "optimized")) if rows else ():
                self.psnr[name] = {key: float(np.mean([row[side][key] for row in rows])) for key in rows[0][side]}
            self.sampled = len(rows)
        except Exception as error:
            self._fail(error)

    def state(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values, for `merge`; values that are not finite become null."""
        sums = {name: getattr(self, name) for name in SUMS}
        sides = {name: getattr(self, name).state() for name in ("initial", "optimized", "change")}
        return {**sums, **sides, "farthest": self.farthest, "sampled": self.sampled,
                "psnr": _plain(self.psnr), "error": self.error}  # fmt: skip

    def merge(self, state: dict[str, Any]) -> None:
        """Add the `state` of another part of the run. The decoded sample of the first part that has one is kept."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + state[name])
        for name in ("initial", "optimized", "change"):
            getattr(self, name).merge(state[name])
        self.farthest = max(self.farthest, state["farthest"])
        self.error = self.error or state["error"]
        if not self.psnr:
            self.psnr, self.sampled = state["psnr"], state["sampled"]

    def summary(self) -> dict[str, Any]:
        """Return what `run.json` holds under `latents` (docs/files.md), as JSON-compatible values.

        Null stands for what could not be measured. Empty before the first record.
        """
        if not self.count:
            return {} if self.error is None else {"error": self.error}
        found: dict[str, Any] = {"images": self.count, "sigma": self.sigmas / self.count}
        found["distance"] = {"mean": self.distances / self.count, "max": self.farthest}
        for name, side in (("initial", self.initial), ("optimized", self.optimized)):
            found[name] = side.summary()
            if name in self.psnr:
                found[name]["psnr_loss"] = self.psnr[name]
        found["change"] = {"spectrum": self.change.power, "high_frequency_share": self.change.high_share}
        if self.psnr:
            found["sample"] = self.sampled
        if self.error is not None:
            found["error"] = self.error
        return _plain(found)

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            logger.warning("the report on the latents is incomplete: %s: %s", type(error).__name__, error)
            self.error = f"{type(error).__name__}: {error}".splitlines()[0]


@torch.no_grad()
def _losses(
    decoders: Sequence[LoopDecoder],
    sample: _Sample,
    latents: np.ndarray,
    recorded: float | None,
    device: torch.device,
) -> dict[str, float]:
    """Return the PSNR against the image that is lost (dB) to each rounding and each noise; NaN where a latent overflows.

    decoders: for rounded latents, in fp32, and for noisy ones. recorded: the PSNR of the latents themselves, the decoder in
    fp32, where it is known, which saves a decoding.
    """
    z = torch.from_numpy(latents).float().unsqueeze(0).to(device)
    target = from_uint8(torch.from_numpy(sample.picture)).permute(2, 0, 1).unsqueeze(0).to(device)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED)).to(device) * sample.sigma
    rounded = {name: z.to(dtype).float() for name, dtype in ROUNDINGS.items()}
    noisy = {f"noise_{level:g}": z + noise * level for level in NOISE}
    found = {}
    for decoder, variants in zip(decoders, (rounded, noisy), strict=True):
        known = recorded if decoder.dtype == torch.float32 else None
        reference = psnr(decoder(z.to(decoder.dtype)), target).item() if known is None else known
        for name, variant in variants.items():
            finite = bool(variant.isfinite().all())
            value = psnr(decoder(variant.to(decoder.dtype)), target).item() if finite else float("nan")
            found[name] = reference - value
    return found


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
