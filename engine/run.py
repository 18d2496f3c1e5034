"""Pictures through the engine, batch by batch: load, encode, optimise. Yields records and failures; writes nothing."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from .autoencoder import Autoencoder
from .config import OptimizationConfig
from .discovery import Source
from .errors import ImageError, UsageError
from .images import BACKGROUND, LoadedImage, load_image
from .metrics import to_uint8
from .optimizer import LatentOptimizer, OptimizationResult
from .records import Failure, Record

logger = logging.getLogger(__name__)

AUTO_BATCH = {"cpu": 4, "mps": 4, "cuda": 16}  # where `auto` starts; on CUDA it halves until it fits

Loaded = tuple[Source, LoadedImage]


@dataclass
class ImageRun:
    """A pass over `sources`; iterate over `batches()` once."""

    autoencoder: Autoencoder
    config: OptimizationConfig
    size: int  # pixels, a multiple of the latent cell
    fit: str = "crop"
    background: str = BACKGROUND
    batch_size: int | None = None  # None: auto
    keep_images: bool = True  # hand on the pictures too, uint8: before, encoder's and optimised reconstruction
    on_progress: Callable[[float], None] | None = None  # called with how many images' worth of the batch is done
    seconds: defaultdict[str, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # by phase: load, encode, optimize

    def batches(self, sources: list[Source]) -> Iterator[list[Record | Failure]]:
        """Records and failures of about a batch at a time, in the order of `sources`."""
        self.autoencoder.check_size(self.size)
        queue, limit = list(reversed(sources)), self._batch_limit()
        while queue:
            outcome: list[Record | Failure] = []
            batch: list[Loaded] = []
            while queue and len(batch) < limit:
                source = queue.pop()
                loaded = self._load(source)
                if isinstance(loaded, Failure):
                    outcome.append(loaded)
                else:
                    batch.append((source, loaded))
            full = False
            try:
                outcome += self._optimize(batch)
            except torch.OutOfMemoryError:
                full = True
            if full:  # not in the handler: its traceback would keep the failed batch in memory
                limit = self._smaller(len(batch))
                queue += [source for source, _ in reversed(batch)]
            if outcome:
                yield outcome

    def _batch_limit(self) -> int:
        return self.batch_size or AUTO_BATCH[self.autoencoder.device.type]

    def _smaller(self, count: int) -> int:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = count // 2
        if half == 0:
            raise UsageError(
                f"one image of {self.size}×{self.size} pixels does not fit in memory; use a smaller --size or --precision bf16"
            )
        if self.batch_size is not None:
            fits = self._probe(half)
            remedy = f"--batch-size {fits} fits" if fits else "not even one image fits: use a smaller --size"
            raise UsageError(
                f"--batch-size {self.batch_size} does not fit in memory; {remedy}, auto finds out by itself"
            )
        logger.warning("a batch of %d does not fit in memory; going on with %d", count, half)
        return half

    def _probe(self, count: int) -> int:
        """The largest halving of `count` for which one iteration fits; 0 if none."""
        factor, channels = self.autoencoder.downscale_factor, self.autoencoder.latent_channels
        if factor is None or channels is None:
            return 0
        side, device = self.size // factor, self.autoencoder.device
        once = OptimizationConfig.from_dict(self.config.to_dict() | {"iterations": 1})
        while count:
            latents = torch.randn(count, channels, side, side, device=device)
            targets = torch.rand(count, 3, self.size, self.size, device=device) * 2 - 1
            try:
                LatentOptimizer(once).optimize_batch(self.autoencoder, latents, targets)
                return count
            except torch.OutOfMemoryError:
                count //= 2
        return 0

    def _load(self, source: Source) -> LoadedImage | Failure:
        start = time.perf_counter()
        try:
            cell = self.autoencoder.downscale_factor or 1
            return load_image(source.path, self.size, self.fit, self.background, cell)
        except ImageError as error:
            return _failure(source, "load", str(error))
        finally:
            self.seconds["load"] += time.perf_counter() - start

    def _optimize(self, batch: list[Loaded]) -> list[Record | Failure]:
        if not batch:
            return []
        start = time.perf_counter()
        targets = torch.cat([image.tensor() for _, image in batch]).to(self.autoencoder.device)
        latents = self.autoencoder.encode(targets)
        encoded = time.perf_counter()
        self.seconds["encode"] += encoded - start

        def report(done: int) -> None:
            if self.on_progress is not None:
                self.on_progress(done / self.config.iterations * len(batch))

        results = LatentOptimizer(self.config).optimize_batch(
            self.autoencoder, latents, targets, check_range=False, on_checkpoint=report
        )
        self.seconds["optimize"] += time.perf_counter() - encoded
        return [self._record(source, image, result) for (source, image), result in zip(batch, results, strict=True)]

    def _record(self, source: Source, image: LoadedImage, result: OptimizationResult) -> Record | Failure:
        if not torch.isfinite(result.optimized_latents).all() or not np.isfinite(list(result.metrics.values())).all():
            return _failure(source, "optimize", "NaN or infinity from the start: the encoder's latent does not decode")
        images = {}
        if self.keep_images:
            images = {"original": image.pixels}
            for key, picture in (("initial", result.initial_image), ("optimized", result.optimized_image)):
                images[key] = to_uint8(picture[0]).permute(1, 2, 0).cpu().numpy()
        return Record(
            name=source.name,
            split=source.split,
            source_path=source.relative,
            original_size=image.original_size,
            initial_latents=result.initial_latents[0].cpu().numpy(),
            optimized_latents=result.optimized_latents[0].cpu().numpy(),
            losses=result.losses,
            convergence_iteration=result.convergence_iteration,
            stop_reason=result.stop_reason,
            metrics=result.metrics,
            conversions=image.conversions,
            images=images,
        )


def _failure(source: Source, stage: str, reason: str) -> Failure:
    return Failure(source.name, source.split, source.relative, stage, reason)
