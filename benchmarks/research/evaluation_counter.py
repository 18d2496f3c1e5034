"""Work, seconds and quality of a search on one photograph, whatever the method: it decodes and encodes through a counter.

The unit of work is one gradient iteration, the decoder forward and backward to the latents, in floating-point
operations. A decoder or an encoder forward alone counts by its own.
"""

import math
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.autoencoders.rewrite import prepare
from ...engine.calibration.low_rank_backward import low_rank_backward
from ...engine.losses.metrics import psnr
from ..timing import now
from .learned import Learned

POINTS = (1, 2, 2.5, 3, 5, 6.25, 8, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150)  # work at which gains are listed


@dataclass(frozen=True)
class Costs:
    """Operations of one picture's evaluations, by torch's counter, of the decoder as published."""

    iteration_flops: int  # decoder forward, and backward to the latents
    decode_flops: int
    encode_flops: int

    @property
    def decode(self) -> float:
        """Work of a decoder forward."""
        return self.decode_flops / self.iteration_flops

    @property
    def encode(self) -> float:
        """Work of an encoder forward."""
        return self.encode_flops / self.iteration_flops

    @property
    def encoder_step(self) -> float:
        """Work of z ← z − ρ(E(D(z)) − E(x))."""
        return self.decode + self.encode


def count_costs(autoencoder: Autoencoder, target: torch.Tensor) -> Costs:
    """target: (1, 3, H, W)."""
    with FlopCounterMode(display=False) as encoding:
        latents = autoencoder.encode(target)
    with FlopCounterMode(display=False) as decoding, torch.no_grad():
        autoencoder.decode(latents)
    latents.requires_grad_(True)
    with FlopCounterMode(display=False) as iterating:
        autoencoder.decode(latents).sum().backward()  # inside the counter autograd.grad fails
    return Costs(iterating.get_total_flops(), decoding.get_total_flops(), encoding.get_total_flops())


def low_rank_iteration(autoencoder: Autoencoder, costs: Costs, target: torch.Tensor, error: float) -> float:
    """Work of an iteration whose gradient may be off by `error`: of the decoder as published, its backward pass low_rank.

    The engine's own iteration is cheaper still, for it folds the upsampling into the convolutions after it.
    """
    latents = autoencoder.encode(target)
    low_rank = low_rank_backward(autoencoder, tuple(latents.shape[1:]), error)
    if low_rank is None:
        return 1.0
    assert isinstance(autoencoder.decoder, nn.Module)
    names = dict(autoencoder.decoder.named_modules())
    published = {  # the rewritten decoder's names: an upsampling block is its convolution, the first one is in a module
        next(
            each for each in (name, f"{name}.conv", name.removesuffix(".conv")) if _convolves(names.get(each))
        ): factors
        for name, factors in low_rank.factors.items()
    }
    module = prepare(autoencoder.decoder, torch.float32, ("freeze_convolutions",), published)
    latents.requires_grad_(True)
    with FlopCounterMode(display=False) as iterating:
        module(latents).sum().backward()
    return iterating.get_total_flops() / costs.iteration_flops


def _convolves(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Conv2d)


@dataclass(frozen=True)
class Run:
    """What a method made of one photograph."""

    rows: list[tuple[float, float, float]]  # of each iterate: work and seconds by which it was there, its MSE unclamped
    gain_db: float  # of the best iterate, in PSNR of the clamped picture in fp32

    @property
    def work(self) -> float:
        return self.rows[-1][0]

    @property
    def seconds(self) -> float:
        return self.rows[-1][1]

    def gains(self, points: Sequence[float]) -> list[float]:
        """dB by each of the points of work, 10·log10(MSE of the start / least MSE so far); a run that is over stays."""
        best, so_far = self.rows[0][2], []
        for _, _, loss in self.rows:
            best = min(best, loss) if math.isfinite(loss) else best
            so_far.append(10.0 * math.log10(self.rows[0][2] / best))
        return [so_far[index] for index in self._places(points)]

    def seconds_at(self, points: Sequence[float]) -> list[float]:
        """When the last iterate within each of the points of work was there."""
        return [self.rows[index][1] for index in self._places(points)]

    def _places(self, points: Sequence[float]) -> list[int]:
        works = [row[0] for row in self.rows]
        return [max(0, bisect_right(works, point + 1e-6) - 1) for point in points]


def mean_gains(runs: Sequence[Run], points: Sequence[float]) -> list[float]:
    """dB at each of the points of work, mean over photographs."""
    return means([run.gains(points) for run in runs])


def means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Of each column."""
    return [statistics.mean(each) for each in zip(*rows, strict=True)]


class EvaluationCounter:
    """A method's only way to the autoencoder. Its clock runs from its making to `finish`, but not while it records."""

    def __init__(
        self, autoencoder: Autoencoder, target: torch.Tensor, costs: Costs, budget: float,
        learned: Learned | None = None,
    ):  # fmt: skip
        """target: (1, 3, H, W) in [-1, 1]. budget: the work a method may spend. learned: what it may know of the
        decoder from other photographs. The encoder's own latents, where every method starts, cost nothing."""
        self.autoencoder, self.target, self.costs, self.budget = autoencoder, target, costs, budget
        self._learned = learned
        self.start = autoencoder.encode(target)  # (1, C, h, w)
        self.sigma = self.start.std().item()
        self.work = 0.0
        self.best, self._best_loss = self.start, math.inf
        self._rows: list[tuple[float, float, float]] = []
        self._begun = self._now()

    @property
    def learned(self) -> Learned:
        if self._learned is None:
            raise ValueError("this method needs photographs to learn from; give the counter a Learned")
        return self._learned

    @property
    def seconds(self) -> float:
        """So far, without those spent on recording."""
        return self._now() - self._begun

    def affords(self, work: float = 1.0) -> bool:
        """Whether so much more work is within the budget."""
        return self.work + work <= self.budget + 1e-6

    def iterations(self, work: float = 1.0) -> int:
        """How many steps of so much work are left."""
        return int((self.budget - self.work + 1e-6) / work)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(1, C, h, w) -> (1, 3, H, W). Where the picture carries a graph, its backward is counted too."""
        work, seconds = self.work, self.seconds
        picture = self.autoencoder.decode(latents)
        self.work += 1.0 if picture.requires_grad else self.costs.decode
        self._record(work, seconds, latents, picture)
        return picture

    def gradient(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """-> the gradient of ½‖D(z) − x‖² with respect to the latents (1, C, h, w), and D(z)."""
        latents = latents.detach().requires_grad_(True)
        picture = self.decode(latents)
        (gradient,) = torch.autograd.grad(picture, latents, picture.detach() - self.target)
        return gradient, picture.detach()

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) -> (1, C, h, w)."""
        self.work += self.costs.encode
        return self.autoencoder.encode(picture)

    def spend(self, flops: float) -> None:
        """Count operations made outside the autoencoder."""
        self.work += flops / self.costs.iteration_flops

    @torch.no_grad()
    def finish(self, latents: torch.Tensor) -> Run:
        """Stop the clock, and look at the last iterate and at the best."""
        work, seconds = self.work, self.seconds
        self._record(work, seconds, latents, self.autoencoder.decode(latents))
        start, best = (psnr(self.autoencoder.decode(each), self.target).item() for each in (self.start, self.best))
        return Run(self._rows, best - start)

    @torch.no_grad()
    def _record(self, work: float, seconds: float, latents: torch.Tensor, picture: torch.Tensor) -> None:
        paused = self._now()
        loss = (picture - self.target).square().mean().item()
        if loss < self._best_loss:
            self.best, self._best_loss = latents.detach().clone(), loss
        self._rows.append((work, seconds, loss))
        self._begun += self._now() - paused

    def _now(self) -> float:
        return now(self.target.device)
