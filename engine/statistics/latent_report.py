"""Is an optimised latent still a good latent to train on? The encoder's and the optimised ones of a run, side by side.

What makes a latent hard for a diffusion model beside its decibels: strong high frequencies (Skorokhodov et al.,
"Improving the Diffusability of Autoencoders", 2025, arXiv 2502.14831), outliers, and a decoder that magnifies small
errors. All of it is collected picture by picture, so a run of any length costs the same memory, and reports of parts of
a run merge into the whole's.
"""

import logging
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..autoencoders.autoencoder import Autoencoder, Transform
from ..losses.metrics import from_uint8, psnr
from ..records import Record
from .moments import Moments
from .spectrum import Spectrum

logger = logging.getLogger(__name__)

SAMPLE = 4  # pictures at the most, the first of the run, that are decoded again with rounded and with noisy latents
ONE_IN = 8  # and no more than this share of them: the report stays cheap beside the shortest run
NOISE = (0.01, 0.03, 0.1)  # standard deviations, relative to σ
SEED = 0  # of that noise: the same for every run, and for both latents of a picture
OUTLIER = 4.0  # σ: beyond it are 6e-5 of a normal distribution's values
MIN_STD = 1e-3  # of a flat latent, as in the loop

SUMS = ("count", "sigmas", "distances")  # the numbers of a report that add up over parts of a run
# the numbers of a side, and how those of two parts become the whole's
LEAST, MOST, COUNTS = ("least", "least_sigma"), ("most", "most_sigma"), ("outliers", "values")

ROUNDINGS = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class _Sample:
    initial: np.ndarray  # (C, h, w)
    optimized: np.ndarray
    picture: np.ndarray  # uint8 (H, W, 3)
    sigma: float


class _Side:
    """The encoder's latents of the run, or the optimised ones."""

    def __init__(self) -> None:
        self.moments: Moments | None = None
        self.spectrum = Spectrum()
        self.least, self.most = math.inf, -math.inf
        self.least_sigma, self.most_sigma = math.inf, -math.inf
        self.outliers = self.values = 0

    def add(self, latents: np.ndarray, middle: np.ndarray, sigma: np.ndarray) -> None:
        """(B, C, *spatial) fp64, and the mean and spread of those pictures' initial latents, (B, 1, …)."""
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
        moments = None if self.moments is None else self.moments.state()
        numbers = {name: getattr(self, name) for name in (*LEAST, *MOST, *COUNTS)} if moments else {}
        return {"moments": moments, "spectrum": self.spectrum.state(), **numbers}

    def merge(self, state: dict[str, Any]) -> None:
        if state["moments"] is None:
            return
        moments = Moments.from_state(state["moments"])
        self.moments = moments if self.moments is None else self.moments.merge(moments)
        self.spectrum.merge(state["spectrum"])
        for names, join in ((LEAST, min), (MOST, max), (COUNTS, operator.add)):
            for name in names:
                setattr(self, name, join(getattr(self, name), state[name]))

    def summary(self) -> dict[str, Any]:
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
    """Takes records as they come, then decodes a sample once, then gives its figures, or its state for another report
    to merge. It never raises: what went wrong is logged and in the figures, under `error`."""

    def __init__(self) -> None:
        self.initial, self.optimized, self.change = _Side(), _Side(), Spectrum()
        self.count, self.sigmas = 0, 0.0
        self.distances, self.farthest = 0.0, 0.0
        self.sample: list[_Sample] = []
        self.sampled = 0  # of these, as many as were decoded
        self.psnr: dict[str, dict[str, Any]] = {}
        self.error: str | None = None

    def add(self, records: Sequence[Record]) -> None:
        """Finished pictures, of one shape. Latents are kept only of those that belong to the sample."""
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
                self.sample.append(_Sample(record.initial_latents, record.optimized_latents, picture, spread))

    def decode(self, autoencoder: Autoencoder) -> None:
        """Measure what rounding and noise cost the sample: a dozen decodings in fp32 for each picture."""
        try:
            decode = autoencoder.loop_decoder("fp32")
            del self.sample[-(-self.count // ONE_IN) :]
            rows = [[_losses(decode, one, latents, autoencoder.device) for latents in (one.initial, one.optimized)]
                    for one in self.sample]  # fmt: skip
            for side, name in enumerate(("initial", "optimized")) if rows else ():
                self.psnr[name] = {key: float(np.mean([row[side][key] for row in rows])) for key in rows[0][side]}
            self.sampled = len(rows)
        except Exception as error:
            self._fail(error)

    def state(self) -> dict[str, Any]:
        """As plain numbers; those without a finite value are null."""
        sums = {name: getattr(self, name) for name in SUMS}
        sides = {name: getattr(self, name).state() for name in ("initial", "optimized", "change")}
        return {**sums, **sides, "farthest": self.farthest, "sampled": self.sampled,
                "psnr": _plain(self.psnr), "error": self.error}  # fmt: skip

    def merge(self, state: dict[str, Any]) -> None:
        """Add another part of the run. The decoded sample is that of the first part that has one."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + state[name])
        for name in ("initial", "optimized", "change"):
            getattr(self, name).merge(state[name])
        self.farthest = max(self.farthest, state["farthest"])
        self.error = self.error or state["error"]
        if not self.psnr:
            self.psnr, self.sampled = state["psnr"], state["sampled"]

    def summary(self) -> dict[str, Any]:
        """What `run.json` holds under `latents` (docs/files.md), in plain numbers; null where there is nothing to
        measure. Empty before the first record."""
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
def _losses(decode: Transform, sample: _Sample, latents: np.ndarray, device: torch.device) -> dict[str, float]:
    """PSNR against the picture that is lost (dB) to each rounding and each noise; NaN where a latent overflows."""
    z = torch.from_numpy(latents).float().unsqueeze(0).to(device)
    target = from_uint8(torch.from_numpy(sample.picture)).permute(2, 0, 1).unsqueeze(0).to(device)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED)).to(device) * sample.sigma
    variants = {name: z.to(dtype).float() for name, dtype in ROUNDINGS.items()}
    variants |= {f"noise_{level:g}": z + noise * level for level in NOISE}
    reference = psnr(decode(z), target).item()
    return {
        name: reference - psnr(decode(variant), target).item() if variant.isfinite().all() else float("nan")
        for name, variant in variants.items()
    }


def _inner(latents: np.ndarray, first: int) -> tuple[int, ...]:
    """All axes from `first` on."""
    return tuple(range(first, latents.ndim))


def _plain(value: Any) -> Any:
    """Numbers and arrays as JSON has them: six significant digits, null for what is no finite number."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
