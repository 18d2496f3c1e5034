"""A few images of a run whose latents are decoded again: rounded, with noise, and half way to another image's.

Three figures come of it for each kind of latents, the encoder's and the optimised ones, all in dB of PSNR:

- `psnr_loss`: what rounding and noise cost against the original picture. The same disturbance costs a more exact latent
  more of its PSNR, since it has less error to hide in, so this figure grows as latents are optimised.
- `noise_psnr`: D(z + noise) against D(z). How strongly the decoder amplifies noise around a latent, however exact that is.
- `interpolation`: D of the midpoint of a latent and its nearest neighbour, against the mean of the two decoded pictures
  (`decoded_psnr`, which is higher the more linear the decoder is between them) and against the mean of the two originals
  (`picture_psnr`, in which the error of the latents counts too).

The last is a substitute for the interpolated FID of Xu et al., "Making Reconstruction FID Predictive of Diffusion
Generation FID", 2026, arXiv 2603.05630, which decodes the same midpoints for a whole data set and takes their Fréchet
distance to it in the features of a pretrained network. Here there is no network and no distribution: a few pairs are
compared with a linear mixture, the neighbour is the nearest by the encoder's latents for both kinds, and the figures only say
whether optimised latents keep what the encoder's have. Its correlation with generation is not claimed for this substitute.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..loop_decoder import LoopDecoder
from ..losses.metrics import from_uint8, psnr
from ..records import Record

NOISE = (0.01, 0.03, 0.1)  # Standard deviations of the added noise, relative to σ.
SEED = 0  # Seed of that noise: the same for every run, and for both latents of an image.
ROUNDINGS = {"fp16": torch.float16, "bf16": torch.bfloat16}

Figures = dict[str, dict[str, float]]  # by figure and variant, in dB


@dataclass(frozen=True)
class Kept:
    """What is kept of a record: its latents, its picture, and the metrics of that whole picture, if they are known."""

    initial: np.ndarray  # (C, *spatial) fp32
    optimized: np.ndarray
    picture: np.ndarray  # uint8 (H, W, 3)
    recorded: dict[str, float]

    @classmethod
    def of(cls, record: Record, masked: bool) -> "Kept | None":
        """None for a record without a picture. masked: its metrics are of what its mask leaves, and so not used."""
        picture = record.images.get("original", record.target)
        if picture is None:
            return None
        return cls(record.initial_latents, record.optimized_latents, picture, {} if masked else record.metrics)

    def latents(self, side: str, device: torch.device) -> torch.Tensor:
        """Return (1, C, *spatial) fp32: the `initial` or the `optimized` latents."""
        return torch.from_numpy(getattr(self, side)).float().unsqueeze(0).to(device)

    def target(self, device: torch.device) -> torch.Tensor:
        """Return the picture, (1, 3, H, W) fp32 in [-1, 1]."""
        return from_uint8(torch.from_numpy(self.picture)).permute(2, 0, 1).unsqueeze(0).to(device)


@dataclass
class Sample:
    """One image that is decoded again, and its nearest neighbour. sigma: the standard deviation of its initial latent."""

    image: Kept
    sigma: float
    neighbour: Kept | None = None
    distance: float = math.inf  # to the neighbour: root of the summed squares, between initial latents

    def consider(self, other: Kept) -> None:
        """Take another image as the neighbour if it is of the same shape and nearer than the present one.

        A latent that is the same, that of a copy of the image, is passed over: its midpoint would be itself.
        """
        if (other.initial.shape, other.picture.shape) != (self.image.initial.shape, self.image.picture.shape):
            return
        distance = float(np.linalg.norm(other.initial - self.image.initial))
        if 0 < distance < self.distance:
            self.neighbour, self.distance = other, distance

    @torch.no_grad()
    def measure(self, exact: LoopDecoder, fast: LoopDecoder, device: torch.device) -> dict[str, Figures]:
        """Return the figures of the `initial` and of the `optimized` latents, of the whole picture whatever its mask; NaN
        where a latent overflows.

        exact: the decoder in fp32, for rounded latents, whose cost is too small for less. fast: for everything else.
        """
        found, target = {}, self.image.target(device)
        for side, metric in (("initial", "initial_psnr"), ("optimized", "final_psnr")):
            z = self.image.latents(side, device)
            image = _decode(fast, z, target)
            before = psnr(image, target).item()
            # what is recorded is of the decoder in fp32, and saves a decoding
            reference = before if exact.dtype == fast.dtype else self.image.recorded.get(metric)
            if reference is None:
                reference = psnr(_decode(exact, z, target), target).item()
            rounded = {name: _decode(exact, z.to(dtype).float(), target) for name, dtype in ROUNDINGS.items()}
            noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED)).to(device) * self.sigma
            noisy = {f"noise_{level:g}": _decode(fast, z + noise * level, target) for level in NOISE}
            losses = {name: reference - psnr(one, target).item() for name, one in rounded.items()}
            losses |= {name: before - psnr(one, target).item() for name, one in noisy.items()}
            found[side] = {"psnr_loss": losses, "noise_psnr": {k: psnr(one, image).item() for k, one in noisy.items()}}
            if self.neighbour is not None:
                other = self.neighbour.latents(side, device)
                midpoint = _decode(fast, (z + other) / 2, target)
                decoded = (image + _decode(fast, other, target)) / 2
                pictures = (target + self.neighbour.target(device)) / 2
                found[side]["interpolation"] = {
                    "decoded_psnr": psnr(midpoint, decoded).item(),
                    "picture_psnr": psnr(midpoint, pictures).item(),
                }
        return found


def mean_figures(found: Sequence[dict[str, Figures]]) -> dict[str, Figures]:
    """Return the mean over images of what `Sample.measure` returned, each figure over the images that have it."""
    means: dict[str, Figures] = {}
    for side in ("initial", "optimized") if found else ():
        means[side] = {}
        for figure in ("psnr_loss", "noise_psnr", "interpolation"):
            rows = [one[side][figure] for one in found if figure in one[side]]
            if rows:
                means[side][figure] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means


def _decode(decoder: LoopDecoder, latents: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Decode (1, C, *spatial) to (1, 3, H, W) fp32, clamped to [-1, 1]; all NaN where a latent is not finite."""
    if not bool(latents.isfinite().all()):
        return torch.full_like(like, torch.nan)
    return decoder(latents.to(decoder.dtype)).float().clamp(-1, 1)
