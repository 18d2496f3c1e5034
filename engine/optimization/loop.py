"""The optimisation loop: images move into slots, are optimised there, and leave when they are done.

The host reads the flags every `checkpoint_interval` iterations. A slot whose image is done takes the next one, so that a batch
never waits for its slowest image; images never mix, each has its own rate, step count, flags and best latents.
"""

import dataclasses
import logging
from collections.abc import Callable

import torch

from ..autoencoders.autoencoder import Autoencoder
from ..calibration.fast_rewrites import loop_options
from ..calibration.low_rank_backward import low_rank_backward
from ..calibration.preconditioner import whitening_kernel
from ..coordinates import Coordinates, WhiteningCoordinates
from ..loop_decoder import Decoded, LoopDecoder
from .config import OptimizationConfig
from .runners import EagerRunner, Runner, build_runner, choose_mode, replay_length
from .slots import DIRECT, RUNNING, Slots
from .step import build_step
from .warm_start import WarmStart

logger = logging.getLogger(__name__)

CACHED_LOOPS = 4  # captures kept per autoencoder; the oldest goes first
CACHED_SHARE = 0.5  # of the device's memory: above it, older captures go before a new one is made


class Loop:
    """B slots and the runner of their iterations, for one decoder, shape, precision and configuration."""

    def __init__(
        self,
        decoder: LoopDecoder,
        config: OptimizationConfig,
        latents: torch.Tensor,
        targets: torch.Tensor,
        weighted: bool = False,
        coordinates: Coordinates = DIRECT,
    ):
        """Slots for batches shaped like (B, *latent shape) `latents` and (B, C, *spatial) `targets`, which give shapes and
        device only.

        weighted: every image comes with a weight map; else none does. Where the decoder's type is less than fp32, or its
        gradients are approximate, the last `refinement_iterations` of `config.iterations` are left to `refine_in_fp32`.
        """
        device = latents.device
        self.config, self.modality = config, decoder.modality
        self.exact = decoder.dtype == torch.float32 and decoder.exact
        self.refinement_iterations = 0 if self.exact else refinement_iterations(config, device)
        self.slots = Slots.empty(latents, targets, config, decoder.dtype, weighted, coordinates)
        self.max_steps = config.iterations - self.refinement_iterations
        self.mode = choose_mode(config.compile, device)
        eager = self.mode == "eager"
        self.chunk = config.checkpoint_interval if eager else replay_length(self.max_steps, config.checkpoint_interval)
        step = build_step(decoder, config, device)
        self.runner: Runner = build_runner(
            step, self.slots, self.mode, self.chunk, compiled=not (config.recompute or config.tile)
        )
        self.mode = self.runner.mode  # another one where it did not compile, or could not be captured
        self.busy: set[int] = set()
        # by slot: the image's initial latents, (1, …), decoded in fp32, where known
        self.starts: dict[int, Decoded] = {}

    @property
    def free(self) -> list[int]:
        """The indices of the slots without an image."""
        return [slot for slot in range(len(self.slots.active)) if slot not in self.busy]

    def load(
        self, where: list[int], latents: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None,
        warm: WarmStart | None = None,
    ) -> None:  # fmt: skip
        """Start images in free slots, their iterations at `warm` or else at `latents`."""
        origin, goal = None if warm is None else warm.latents, None
        if warm is not None and warm.error is not None and self.config.has_target:
            goal = self.modality.target_error(warm.error, self.config.target_gain, self.config.target_psnr)
            there = (warm.error <= goal).view((-1,) + (1,) * (latents.ndim - 1))
            origin = torch.where(there, latents, warm.latents)  # done before it began
        self.slots.load(where, latents, targets, self.config, self.max_steps, weights, origin)
        if goal is not None:
            self.slots.target_error[torch.tensor(where, device=goal.device)] = goal
        for row, slot in enumerate(where):
            self.starts.pop(slot, None)
            if warm is not None and warm.start is not None:
                output, extra = warm.start
                self.starts[slot] = Decoded(output[row : row + 1], None if extra is None else extra[row : row + 1])
        self.busy.update(where)

    def advance(self) -> list[int]:
        """Run one chunk of iterations; return the slots whose image is done."""
        self.runner.run(self.chunk)
        active = self.slots.active.tolist()
        return [slot for slot in sorted(self.busy) if not active[slot]]

    def complete(self, on_checkpoint: Callable[[int], None] | None = None) -> None:
        """Advance until every image is done; `on_checkpoint` gets the iterations done, after each chunk."""
        done: list[int] = []
        while len(done) < len(self.busy):
            done = self.advance()
            if on_checkpoint is not None:
                on_checkpoint(max(self.steps(sorted(self.busy))))

    def steps(self, where: list[int]) -> list[int]:
        """Return how many iterations were evaluated in each of the slots `where`."""
        done = evaluations(self.slots)
        return [done[slot] for slot in where]

    def start(self, where: list[int]) -> Decoded | None:
        """Return the initial latents of the slots `where`, decoded in fp32; None where that has not been done for all."""
        if not all(slot in self.starts for slot in where):
            return None
        outputs, extras = zip(*(self.starts[slot] for slot in where), strict=True)
        return Decoded(torch.cat(outputs), None if extras[0] is None else torch.cat(extras))

    def unload(self, where: list[int]) -> Slots:
        """Return a copy of the slots `where`, which are then free."""
        part = self.slots.take(where)
        self.slots.active[torch.tensor(where, device=self.slots.active.device)] = False
        self.busy.difference_update(where)
        for slot in where:
            self.starts.pop(slot, None)
        return part

    def clear(self) -> None:
        """Forget all images."""
        self.slots.active.fill_(False)
        self.busy.clear()
        self.starts.clear()


def refinement_iterations(config: OptimizationConfig, device: torch.device) -> int:
    """Return how many of the last iterations are the fp32 refinement: in fp32, with exact gradients.

    bf16 alone ends 0.1 dB lower at 38 dB (TAEF2). One picture ends as well with 12 % in fp32, to 0.1 dB, but pictures
    that are optimised again and again, each from the last one's, lose more the fewer these are; and each costs 2 to 3 others.
    """
    wanted = config.refinement_iterations
    if wanted is None:
        wanted = -(-26 * config.iterations // 100) if device.type == "cpu" else 0
    return min(wanted, config.iterations - 1)


def get_loop(
    autoencoder: Autoencoder,
    config: OptimizationConfig,
    precision: str,
    latents: torch.Tensor,
    targets: torch.Tensor,
    *,
    bucket: bool,
    weighted: bool = False,
) -> Loop:
    """Return a loop with a free slot for each row of `latents` (B, *latent shape).

    A compiled one comes from the autoencoder's cache where its shape and configuration have been compiled. With
    `bucket` it has a power of two of slots, the rest idle, so that not every batch size compiles anew.
    """
    shape = tuple(latents.shape[1:])
    # a subclass whose decoder has no tiles need not know of them; the norms of tiles are not the kernels'
    options = loop_options(autoencoder, precision, latents) if config.tile is None else {"tile": config.tile}
    decoder = autoencoder.loop_decoder(
        precision, config.recompute, low_rank_backward(autoencoder, shape, config.gradient_error), **options
    )
    coordinates = coordinates_of(autoencoder, shape, config.precondition)
    if choose_mode(config.compile, latents.device) == "eager":
        return Loop(decoder, config, latents, targets, weighted, coordinates)
    count = 1 << (latents.shape[0] - 1).bit_length() if bucket else latents.shape[0]
    latents, targets = (x[:1].expand(count, *x.shape[1:]) for x in (latents, targets))
    key = (config, precision, tuple(autoencoder.rewrites), tuple(latents.shape), tuple(targets.shape), weighted)
    loops = autoencoder.cache.values("loops")
    if key not in loops:
        while loops and (len(loops) >= CACHED_LOOPS or _crowded(latents.device)):
            del loops[next(iter(loops))]
        logger.info("compiling for %d images of %s, once", count, "×".join(map(str, targets.shape[2:])))
    loop: Loop = autoencoder.cache.get(
        "loops", key, lambda: Loop(decoder, config, latents, targets, weighted, coordinates)
    )
    loop.clear()
    return loop


def _crowded(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    torch.cuda.empty_cache()  # what is reserved for no one, such as the memory of captures that were deleted, does not crowd
    total = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.memory_reserved(device) > CACHED_SHARE * total


def coordinates_of(autoencoder: Autoencoder, shape: tuple[int, ...], precondition: bool) -> Coordinates:
    """Return the coordinates in which latents of `shape`, without the batch, are optimised: the autoencoder's own; else, with
    `precondition`, whitened ones where they can be measured; else the latents themselves."""
    if autoencoder.coordinates is not None:
        return autoencoder.coordinates
    kernel = whitening_kernel(autoencoder, shape) if precondition else None
    return DIRECT if kernel is None else WhiteningCoordinates(kernel)


def run_eagerly(decoder: LoopDecoder, slots: Slots, config: OptimizationConfig) -> None:
    """Iterate `slots` in place until no image is active."""
    runner = EagerRunner(build_step(decoder, config, slots.latents.device), slots)
    while bool(slots.active.any()):
        runner.run(config.checkpoint_interval)


def refine_in_fp32(
    decoder: LoopDecoder, slots: Slots, config: OptimizationConfig, which: torch.Tensor, max_steps: torch.Tensor
) -> Slots:
    """Continue the images `which` (B,) in fp32 up to `max_steps` (B,) iterations; best latents and stop reasons are reset.

    An image that had converged keeps that reason. Returns slots of which `decoder_input` is fp32.
    """
    slots = slots.take(list(range(len(which))), torch.float32)
    code, when = slots.stop_code.clone(), slots.stop_iteration.clone()
    slots.active.copy_(which)
    slots.max_steps.copy_(torch.where(which, max_steps, slots.max_steps))
    slots.best_loss.masked_fill_(which, float("inf"))
    slots.stop_code.masked_fill_(which, RUNNING)
    slots.stop_iteration.masked_fill_(which, -1)
    run_eagerly(decoder, slots, dataclasses.replace(config, convergence_threshold=0.0))
    unexplained = slots.stop_code == RUNNING
    slots.stop_code.copy_(torch.where(unexplained, code, slots.stop_code))
    slots.stop_iteration.copy_(torch.where(unexplained, when, slots.stop_iteration))
    return slots


def loss_lists(slots: Slots) -> list[list[float]]:
    """Return, per image, the losses of the iterations it ran, as Python floats, a non-finite last one included."""
    rows = slots.losses[:, :-1].tolist()
    return [row[:count] for row, count in zip(rows, evaluations(slots), strict=True)]


def evaluations(slots: Slots) -> list[int]:
    """Return, per image, how many iterations it began; the one that stopped it made no step."""
    return [int(count) for count in torch.maximum(slots.step, slots.stop_iteration + 1).tolist()]
