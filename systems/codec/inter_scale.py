"""Phase 2: a penalty that keeps the latents of adjacent scales apart.

−δ · mean over adjacent pairs of d(z_coarse, W ∗ LL(z_fine)), LL the low Haar band, W a 1×1 convolution to the coarser
scale's channels: "Taming Hierarchical Image Coding Optimization: A Spectral Regularization Perspective", ICLR 2026,
Section 3.3, Equation 6. A new distance is a function and a line in `DISTANCES`.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F

from ...engine.errors import UsageError
from .transforms.haar import DWTDownsampler

INITIAL_GAIN = 0.1  # of the alignment's Kaiming initialisation, so that it hardly disturbs a trained model at first
TINY = 1e-12  # below every energy that latents have; keeps 0 / 0 at 0


def mse_distance(a: torch.Tensor, b: torch.Tensor, normalise: bool) -> torch.Tensor:
    """Mean of (a − b)²; normalised it is divided by the means of a² and b²: in [0, 2], 1 where they are uncorrelated."""
    distance = (a - b).square().mean()
    return distance / (a.square().mean() + b.square().mean()).clamp_min(TINY) if normalise else distance


def l1_distance(a: torch.Tensor, b: torch.Tensor, normalise: bool) -> torch.Tensor:
    """Mean of |a − b|; normalised it is divided by the means of |a| and |b|: in [0, 1]."""
    distance = (a - b).abs().mean()
    return distance / (a.abs().mean() + b.abs().mean()).clamp_min(TINY) if normalise else distance


def cosine_distance(a: torch.Tensor, b: torch.Tensor, normalise: bool) -> torch.Tensor:
    """Mean over positions of 1 − the cosine between the channels' vectors, in [0, 2]; `normalise` changes nothing."""
    return 1.0 - F.cosine_similarity(a, b, dim=1).mean()


DISTANCES: dict[str, Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]] = {
    "mse": mse_distance,
    "l1": l1_distance,
    "cosine": cosine_distance,
}


class InterScaleRegularizer(torch.nn.Module):
    """The penalty on latents given coarse to fine, each scale twice as wide and high as the one before.

    delta: δ. channels: of each scale, coarse to fine. distance: a key of `DISTANCES`. normalise: divide the distance by
    the size of what it compares. Without it "mse" and "l1" have no lower bound: latents and alignments that grow lower
    them for ever; with it the penalty stays above −2δ ("mse") or −δ ("l1").

    The alignments are parameters of this module: give them to the optimiser, and save its `state_dict`, with the model's.
    """

    def __init__(
        self,
        delta: float = 0.1,
        channels: Sequence[int] = (320, 320, 320),
        distance: str = "mse",
        normalise: bool = False,
    ):
        super().__init__()
        if distance not in DISTANCES:
            raise UsageError(f"distance: expected one of {', '.join(DISTANCES)}, found {distance!r}")
        if not 0.0 <= delta < float("inf"):
            raise UsageError(f"delta: expected a number of at least 0, found {delta}")
        self.delta, self.channels, self.distance, self.normalise = delta, tuple(channels), distance, normalise
        self.downsampler = DWTDownsampler()
        aligns = [torch.nn.Conv2d(fine, coarse, 1, bias=False) for coarse, fine in pairwise(self.channels)]
        for align in aligns:
            torch.nn.init.kaiming_normal_(align.weight, mode="fan_out", nonlinearity="linear")
            with torch.no_grad():
                align.weight.mul_(INITIAL_GAIN)
        self.channel_align = torch.nn.ModuleList(aligns)

    def forward(self, latents_hierarchy: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """Return the penalty, a scalar, at most 0, in fp32 or fp64; types of 16 bits are compared in fp32.

        latents_hierarchy: coarse to fine, (B, C_i, H_i, W_i) with H_i = ⌈H_{i+1} / 2⌉. A pair with a None is left out;
        without any pair the penalty is 0. Raises `UsageError` for tensors that do not fit each other or `channels`.
        """
        if len(latents_hierarchy) > len(self.channels):
            raise UsageError(
                f"latents_hierarchy: expected at most {len(self.channels)} scales, as channels={self.channels} has, "
                f"found {len(latents_hierarchy)}"
            )
        distances = [
            self._pair(i, coarse, fine)
            for i, (coarse, fine) in enumerate(pairwise(latents_hierarchy))
            if coarse is not None and fine is not None
        ]
        if distances:
            return -self.delta * torch.stack(distances).mean()
        present = next((each for each in latents_hierarchy if each is not None), None)
        return torch.zeros((), device=None if present is None else present.device)

    def extra_repr(self) -> str:
        return f"delta={self.delta}, distance={self.distance!r}, normalise={self.normalise}"

    def _pair(self, index: int, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = fine.shape
        expected = (batch, self.channels[index], (height + 1) // 2, (width + 1) // 2)
        if fine.shape[1] != self.channels[index + 1] or coarse.shape != expected:  # else they would broadcast
            raise UsageError(
                f"latents_hierarchy: scales {index + 1} and {index + 2} of channels={self.channels} do not fit: beside a "
                f"finer latent {tuple(fine.shape)} expected {expected}, found {tuple(coarse.shape)}"
            )
        aligned = self.channel_align[index](self.downsampler(fine))
        dtype = torch.promote_types(torch.promote_types(coarse.dtype, aligned.dtype), torch.float32)
        return DISTANCES[self.distance](coarse.to(dtype), aligned.to(dtype), self.normalise)
