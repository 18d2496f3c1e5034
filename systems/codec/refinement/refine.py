"""Refinement of pictures' latents, from pictures to files."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....engine.losses.pointwise import mse
from ....engine.optimization.config import OptimizationConfig
from ....engine.optimization.loop import Loop
from ....engine.optimization.optimizer import OptimizationResult, finish, start_loop
from ..bitstream.image_codec import Encoded, ImageCodec, padded
from ..measures import Measured, measure
from .config import RefinementConfig
from .decoder import LatentDecoder


@dataclass(frozen=True)
class Refined:
    """One picture's outcome."""

    encoded: Encoded  # the file with the lower cost
    before: Measured  # the file of the encoder's own latents
    after: Measured  # that of `encoded`, of no higher cost
    kept: str  # "refined" or "initial": which file `encoded` is
    seconds: float  # in the loop, with the coding of the refined file; of pictures in one batch the time is shared
    costs: list[
        float
    ]  # as the model estimates them, of the rounded latents, at steps 0, judge_interval, 2 judge_interval …


@dataclass(frozen=True)
class _Job:
    """A picture in the loop."""

    position: int
    image: Tensor  # (3, H, W) uint8
    initial: Encoded
    begin: float  # time.perf_counter()


def refine(
    codec: ImageCodec,
    images: Sequence[Tensor],
    config: RefinementConfig | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> list[Refined]:
    """Optimises the latents of each picture, (3, H, W) uint8 of any sizes, under the codec's rate-distortion loss.

    Of the encoder's file and that of the refined latents each picture gets the one of lower cost. on_progress: called with how
    many pictures' worth of work is done. What a picture gets does not depend on the others, but for floating-point rounding
    where batch_size is above 1. Raises `UsageError` for what is no picture.
    """
    config = config or RefinementConfig()
    groups: dict[tuple[int, int, bool], deque[int]] = defaultdict(deque)
    for position, image in enumerate(images):
        height, width = padded(image).shape[2:]
        groups[height, width, (height, width) != tuple(image.shape[1:])].append(position)
    found: dict[int, Refined] = {}
    for (height, width, partial), waiting in groups.items():
        decoder = LatentDecoder(codec.model, height, width, config)
        slots = min(config.batch_size, len(waiting))
        like = torch.empty(slots, 1, sum(decoder.packing.sizes.values())), torch.empty(slots, 3, height, width)
        loop = start_loop(decoder, loop_config(config, codec.lmbda), *like, weighted=partial)
        jobs: dict[int, _Job] = {}  # by slot
        while waiting or jobs:
            for slot in loop.free[: len(waiting)]:
                position = waiting.popleft()
                jobs[slot] = _start(codec, decoder, loop, slot, position, images[position], partial)
            done = loop.advance()
            results = finish(decoder, loop, done, torch.device("cpu")) if done else []
            for slot, result in zip(done, results, strict=True):
                job = jobs.pop(slot)
                found[job.position] = _conclude(codec, config, decoder, job, result)
            if on_progress is not None:
                on_progress(len(found) + sum(loop.steps(sorted(jobs))) / config.steps)
    return [found[position] for position in range(len(images))]


def _start(
    codec: ImageCodec, decoder: LatentDecoder, loop: Loop, slot: int, position: int, image: Tensor, partial: bool
) -> _Job:
    begin, target = time.perf_counter(), padded(image)
    with torch.no_grad():
        y, z = codec.model.analyse(target)
    weights = real_area(image, target) if partial else None
    loop.load([slot], decoder.packing.pack({"y": y, "z": z}), target, weights)
    return _Job(position, image, codec.encode_latents(y, z, *image.shape[1:]), begin)


def loop_config(config: RefinementConfig, lmbda: float) -> OptimizationConfig:
    """The engine's settings. The loss is λ · 255² · MSE over the padded picture; for the loss, padding is the target itself."""

    def distortion(decoded: Tensor, target: Tensor) -> Tensor:
        return lmbda * 255.0**2 * mse(decoded, target)

    return OptimizationConfig(
        iterations=config.steps, learning_rate=config.learning_rate, schedule=config.schedule, betas=config.betas,
        initial_beta=config.betas[0], beta_rise=0, relative_eps=config.relative_eps, warm_start=0, precondition=False,
        loss_function=distortion, convergence_threshold=config.convergence_threshold,
        convergence_window=config.convergence_window, checkpoint_interval=config.judge_interval, precision="fp32",
        gradient_error=0.0, refinement_iterations=0, compile="off",
    )  # fmt: skip


def real_area(image: Tensor, target: Tensor) -> Tensor:
    """(1, 1, H', W') fp32 of mean 1: equal where the padded picture (1, 3, H', W') is the picture (3, H, W), else 0."""
    weights = torch.zeros_like(target[:, :1])
    weights[:, :, : image.shape[1], : image.shape[2]] = 1.0
    return weights / weights.mean()


def _conclude(
    codec: ImageCodec, config: RefinementConfig, decoder: LatentDecoder, job: _Job, result: OptimizationResult
) -> Refined:
    """Codes the refined latents and keeps the better file."""
    parts = decoder.packing.unpack(result.optimized_latents)
    refined = codec.encode_latents(parts["y"], parts["z"], *job.image.shape[1:])
    before, after = (measure(job.image, one, codec.lmbda) for one in (job.initial, refined))
    better = after.rd_cost < before.rd_cost
    padding = result.optimized_image[0, 0].numel() / job.image[0].numel()
    return Refined(
        encoded=refined if better else job.initial,
        before=before,
        after=after if better else before,
        kept="refined" if better else "initial",
        seconds=time.perf_counter() - job.begin,
        costs=[padding * loss for loss in result.losses[:: config.judge_interval]],  # those are per padded pixel
    )
