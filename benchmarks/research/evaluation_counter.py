"""Work, time and quality of a search on one photograph: every method calls the autoencoder through a counter.

The unit of work is one gradient iteration, that is the floating-point operations of one decoder forward pass and its
backward pass to the latents. A forward pass of the decoder or the encoder alone counts by its own operations.
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

# Amounts of work at which gains are listed.
POINTS = (1, 2, 2.5, 3, 5, 6.25, 8, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150)


@dataclass(frozen=True)
class Costs:
    """Floating-point operations for one image, counted by torch's FlopCounterMode on the decoder as published."""

    iteration_flops: int  # Decoder forward pass, and backward pass to the latents.
    decode_flops: int
    encode_flops: int

    @property
    def decode(self) -> float:
        """Work of a decoder forward pass."""
        return self.decode_flops / self.iteration_flops

    @property
    def encode(self) -> float:
        """Work of an encoder forward pass."""
        return self.encode_flops / self.iteration_flops

    @property
    def encoder_step(self) -> float:
        """Work of an encoder step, z ← z − ρ(E(D(z)) − E(x))."""
        return self.decode + self.encode


def count_costs(autoencoder: Autoencoder, target: torch.Tensor) -> Costs:
    """Return the costs for a target (1, 3, H, W)."""
    with FlopCounterMode(display=False) as encoding:
        latents = autoencoder.encode(target)
    with FlopCounterMode(display=False) as decoding, torch.no_grad():
        autoencoder.decode(latents)
    latents.requires_grad_(True)
    with FlopCounterMode(display=False) as iterating:
        autoencoder.decode(latents).sum().backward()  # autograd.grad fails inside FlopCounterMode.
    return Costs(iterating.get_total_flops(), decoding.get_total_flops(), encoding.get_total_flops())


def low_rank_iteration(autoencoder: Autoencoder, costs: Costs, target: torch.Tensor, error: float) -> float:
    """Return the work of an iteration of the published decoder with a low-rank approximate backward pass.

    error: the allowed relative error of the gradient. The engine's own iteration is cheaper still, since it merges each
    upsampling with the convolution after it.
    """
    latents = autoencoder.encode(target)
    low_rank = low_rank_backward(autoencoder, tuple(latents.shape[1:]), error)
    if low_rank is None:
        return 1.0
    assert isinstance(autoencoder.decoder, nn.Module)
    names = dict(autoencoder.decoder.named_modules())
    # Map the names of the rewritten decoder to the published ones: an upsampling block becomes its convolution, and the
    # first convolution lies inside a module.
    published = {
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
    """The trajectory of a method on one photograph."""

    # For each iterate: work and seconds spent until then, and its MSE without clamping.
    rows: list[tuple[float, float, float]]
    gain_db: float  # Gain of the best iterate: PSNR of the clamped image, decoded in fp32.

    @property
    def work(self) -> float:
        """Work of the whole run."""
        return self.rows[-1][0]

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return self.rows[-1][1]

    def gains(self, points: Sequence[float]) -> list[float]:
        """Return the gain in dB at each amount of work: 10·log10(MSE of the start / least MSE so far).

        A run that has ended keeps its last gain.
        """
        best, so_far = self.rows[0][2], []
        for _, _, loss in self.rows:
            best = min(best, loss) if math.isfinite(loss) else best
            so_far.append(10.0 * math.log10(self.rows[0][2] / best))
        return [so_far[index] for index in self._indices(points)]

    def seconds_at(self, points: Sequence[float]) -> list[float]:
        """Return the seconds after which the last iterate within each amount of work was available."""
        return [self.rows[index][1] for index in self._indices(points)]

    def _indices(self, points: Sequence[float]) -> list[int]:
        works = [row[0] for row in self.rows]
        return [max(0, bisect_right(works, point + 1e-6) - 1) for point in points]


def mean_gains(runs: Sequence[Run], points: Sequence[float]) -> list[float]:
    """Return the mean gain over photographs in dB at each amount of work."""
    return means([run.gains(points) for run in runs])


def means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of each column."""
    return [statistics.mean(each) for each in zip(*rows, strict=True)]


class EvaluationCounter:
    """A method's only access to the autoencoder, which counts work and time.

    The clock runs from construction to `finish`, but is stopped while results are recorded.
    """

    def __init__(
        self, autoencoder: Autoencoder, target: torch.Tensor, costs: Costs, budget: float,
        learned: Learned | None = None,
    ):  # fmt: skip
        """Start counting.

        target: (1, 3, H, W) in [-1, 1].
        budget: the work that the method may spend. The encoder's own latents, where every method starts, cost nothing.
        learned: properties of the decoder, measured on other photographs, that the method may use.
        """
        self.autoencoder, self.target, self.costs, self.budget = autoencoder, target, costs, budget
        self._learned = learned
        self.start = autoencoder.encode(target)  # (1, C, h, w)
        self.sigma = self.start.std().item()
        self.work = 0.0
        self.best, self._best_loss = self.start, math.inf
        self._rows: list[tuple[float, float, float]] = []
        self._begin = self._now()

    @property
    def learned(self) -> Learned:
        """Properties of the decoder learned from other photographs. Raises `ValueError` where there are none."""
        if self._learned is None:
            raise ValueError("this method needs photographs to learn from; give the counter a Learned")
        return self._learned

    @property
    def seconds(self) -> float:
        """Seconds so far, without those spent on recording."""
        return self._now() - self._begin

    def affords(self, work: float = 1.0) -> bool:
        """Return whether the budget still allows so much work."""
        return self.work + work <= self.budget + 1e-6

    def iterations(self, work: float = 1.0) -> int:
        """Return how many steps of so much work the budget still allows."""
        return int((self.budget - self.work + 1e-6) / work)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode (1, C, h, w) to (1, 3, H, W). If the image carries an autograd graph, its backward pass is counted
        too.
        """
        work, seconds = self.work, self.seconds
        picture = self.autoencoder.decode(latents)
        self.work += 1.0 if picture.requires_grad else self.costs.decode
        self._record(work, seconds, latents, picture)
        return picture

    def gradient(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradient of ½‖D(z) − x‖² with respect to the latents (1, C, h, w), and D(z)."""
        latents = latents.detach().requires_grad_(True)
        picture = self.decode(latents)
        (gradient,) = torch.autograd.grad(picture, latents, picture.detach() - self.target)
        return gradient, picture.detach()

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """Encode (1, 3, H, W) to (1, C, h, w)."""
        self.work += self.costs.encode
        return self.autoencoder.encode(picture)

    def spend(self, flops: float) -> None:
        """Count floating-point operations made outside the autoencoder."""
        self.work += flops / self.costs.iteration_flops

    @torch.no_grad()
    def finish(self, latents: torch.Tensor) -> Run:
        """Stop the clock, and evaluate the last iterate and the best one."""
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
        self._begin += self._now() - paused

    def _now(self) -> float:
        return now(self.target.device)
