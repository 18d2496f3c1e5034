"""A decoder as the optimisation loop runs it: what it computes, in which precision, and what its outputs are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .modality import Modality
from .pictures import PICTURES


class Decoded(NamedTuple):
    """What a decoder gives for a batch of latents."""

    output: torch.Tensor  # (B, C, *spatial) in the modality's range, in any floating type
    extra: torch.Tensor | None = None  # (B,) fp32, added to each sample's loss: the rate of its latents, for example


# (B, *latent shape) latents and (B,) int32 iterations done, both on the device -> Decoded, differentiable in the latents
Decode = Callable[[torch.Tensor, torch.Tensor], Decoded]


@dataclass(frozen=True)
class LoopDecoder:
    """`run` is what the loop differentiates. Calling the object gives the output alone.

    judge: where `run` is a relaxation, such as noise in place of rounding, what is really wanted: losses are recorded,
    best latents kept and samples stopped by it, at the cost of one more forward pass in each iteration. It must not depend on
    the iteration, so that its figures can be compared. None: `run`.
    judge_interval: it is asked at each sample's iterations 0, judge_interval, 2 judge_interval …; between them the last
    figure stands, and no sample is stopped by a target.
    """

    run: Decode
    dtype: torch.dtype = torch.float32  # of the latents that it takes
    modality: Modality = PICTURES
    exact: bool = True  # False: gradients are approximate, see `calibration/low_rank_backward.py`
    judge: Decode | None = None
    judge_interval: int = 1

    @classmethod
    def of(
        cls,
        function: Callable[[torch.Tensor], torch.Tensor],
        dtype: torch.dtype = torch.float32,
        modality: Modality = PICTURES,
        exact: bool = True,
    ) -> "LoopDecoder":
        """A decoder (B, *latent shape) -> (B, C, *spatial) that has no extra loss and does not depend on the iteration."""
        return cls(lambda latents, _step: Decoded(function(latents)), dtype, modality, exact)

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, *latent shape) in `dtype` -> (B, C, *spatial), as at the first iteration."""
        return self.run(latents, torch.zeros(len(latents), dtype=torch.int32, device=latents.device)).output

    def evaluate(self, latents: torch.Tensor, step: torch.Tensor) -> Decoded:
        """What latents are judged by. step: (B,) int32, iterations done."""
        return (self.judge or self.run)(latents, step)
