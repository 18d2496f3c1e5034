"""The batch size: a fixed one, or the largest that fits in memory and still brings speed."""

import logging
import time
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..autoencoders.autoencoder import Autoencoder
from ..autoencoders.tiling import LEAST_CELLS
from ..errors import RunStoppedError, UsageError
from ..inputs.sizes import Size, as_size, size_text
from ..runtime.cuda_flags import in_new_thread
from ..runtime.memory import fastest_batch_size
from .config import OptimizationConfig
from .optimizer import start_loop

logger = logging.getLogger(__name__)

AUTO_BATCH = {"cpu": 1, "mps": 4}  # on CPU one picture fills the processor; on CUDA `auto` measures


@dataclass(frozen=True)
class BatchSizeProbe:
    """Chooses batch sizes for one engine; where they must be measured, by single iterations of random pictures."""

    autoencoder: Autoencoder
    config: OptimizationConfig
    size: int | Size  # pixels, multiples of the latent cell
    fixed: int | None = None  # the batch size that was asked for; None: auto
    weighted: bool = False  # whether each picture comes with a weight map

    def first(self, count: int) -> int:
        """Return the batch size to begin with, for `count` pictures in all."""
        if self.fixed is not None:
            return self.fixed
        device = self.autoencoder.device
        return AUTO_BATCH[device.type] if device.type != "cuda" else fastest_batch_size(self.seconds, count)

    def smaller(self, count: int, resumable: bool) -> int:
        """Return the batch size to go on with after `count` pictures have run out of memory: half of them, if it is auto.

        resumable: whether pictures have been finished, so that what is raised ends a run that can be resumed.
        Raises `UsageError`, or where `resumable` `RunStoppedError`, for a fixed size, naming the one that fits, and for
        one picture that does not fit.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        error = RunStoppedError if resumable else UsageError
        half = count // 2
        if half == 0:
            raise error(
                f"one image of {size_text(self.size)} pixels does not fit in memory; use a smaller --size or --precision bf16"
            )
        if self.fixed is not None:
            fits = self.largest(half)
            remedy = f"--batch-size {fits} fits" if fits else "not even one image fits: use a smaller --size"
            raise error(f"--batch-size {self.fixed} does not fit in memory; {remedy}, auto finds out by itself")
        logger.warning("a batch of %d does not fit in memory; going on with %d", count, half)
        return half

    def largest(self, count: int) -> int:
        """Return the largest halving of `count` for which one iteration fits; 0 if none."""
        while count:
            try:
                self.seconds(count)
                return count
            except torch.OutOfMemoryError:
                count //= 2
        return 0

    def seconds(self, count: int) -> float:
        """Return the seconds of one eager iteration of `count` pictures. Raises `torch.OutOfMemoryError` where they do not fit.

        In a thread of its own: to tune every size here would take long, and what is not tuned must not stay so in the loop.
        """
        return in_new_thread(partial(self._seconds, count))

    def _seconds(self, count: int) -> float:
        device = self.autoencoder.device
        width, height = as_size(self.size)
        target = torch.rand(1, 3, height, width, device=device) * 2 - 1
        latents = self.autoencoder.encode(target)
        latents, targets = latents.repeat(count, 1, 1, 1), target.repeat(count, 1, 1, 1)
        once = replace(
            self.config, iterations=2, compile="off", checkpoint_interval=1, refinement_iterations=0, target_gain=None,
            target_psnr=None, convergence_threshold=0.0,
        )  # fmt: skip
        weights = torch.ones_like(targets[:, :1]) if self.weighted else None
        loop = start_loop(self.autoencoder, once, latents, targets, weighted=self.weighted)
        loop.load(list(range(count)), latents, targets, weights)
        loop.advance()  # chooses algorithms, allocates
        begin = time.perf_counter()
        loop.advance()
        return time.perf_counter() - begin


def lighter_config(config: OptimizationConfig, size: int | Size, cell: int) -> OptimizationConfig | None:
    """Return a configuration that takes less memory for one picture of `size` pixels: with recomputation, then in tiles of
    half its longer side, a quarter, and so on. None where there is none.

    cell: pixels of one latent cell.
    """
    freely = "auto" if config.compile == "on" else config.compile
    if not config.recompute:
        return replace(config, recompute=True, compile=freely)
    tile = (config.tile or max(as_size(size))) // 2 // cell * cell
    return None if tile < LEAST_CELLS * cell else replace(config, tile=tile, compile=freely)
