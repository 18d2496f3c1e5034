"""Pictures through the engine: encode, optimise, a slot each. Yields records and failures; writes nothing."""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..autoencoders.autoencoder import Autoencoder
from ..errors import UsageError
from ..inputs.images import BACKGROUND, LoadedImage
from ..inputs.masks import Masks
from ..inputs.prefetch import LoadedSource, Reader, failure
from ..inputs.sources import Source
from ..losses.metrics import from_uint8, to_uint8
from ..records import Failure, Outcome, Record
from ..runtime.memory import fastest_batch_size, peak_memory
from .config import OptimizationConfig
from .loop import Loop
from .optimizer import OptimizationResult, finish, start_loop
from .warm_start import warm_start

logger = logging.getLogger(__name__)

AUTO_BATCH = {"cpu": 1, "mps": 4}  # on CPU one picture fills the processor; on CUDA `auto` measures


@dataclass(frozen=True)
class View:
    """A picture as a target: as it is, or mirrored left-right."""

    position: int  # in the pass
    source: Source
    image: LoadedImage
    mirrored: bool = False

    def pixels(self) -> torch.Tensor:
        """(1, H, W, 3) uint8."""
        pixels = torch.from_numpy(self.image.pixels).unsqueeze(0)
        return pixels.flip(2) if self.mirrored else pixels

    def weight(self) -> torch.Tensor:
        """(1, 1, H, W) fp32, how much each pixel counts."""
        weight = self.image.weight()
        return weight.flip(-1) if self.mirrored else weight


@dataclass
class ImageRun:
    """Passes over pictures, with one engine: slots, batch size and compiled code are kept between them."""

    autoencoder: Autoencoder
    config: OptimizationConfig
    size: int  # pixels, a multiple of the latent cell
    fit: str = "crop"
    background: str = BACKGROUND
    batch_size: int | None = None  # targets at once, with `flip` two a picture; None: auto
    keep_images: bool = True  # hand on the pictures too, uint8: before, encoder's and optimised reconstruction
    flip: bool = False  # optimise each picture mirrored too, as a target of its own; both go into one record
    masks: Masks | None = None  # which pixels of each picture count; None: all
    capacity: int | None = None  # pictures of the largest pass; None: those of the first
    on_progress: Callable[[float], None] | None = None  # called with how many images' worth is in work
    seconds: defaultdict[str, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # by phase: load (waiting for pictures), encode, compile, optimize
    engine: dict[str, Any] = field(default_factory=dict)  # how it ran: mode, batch size, peak memory
    _loop: Loop | None = None
    _limit: int | None = None  # targets at once
    _pictures: Iterator[LoadedSource] = field(default_factory=lambda: iter(()))  # of the pass
    _waiting: int = 0  # pictures of the pass that have not been taken yet
    _taken: int = 0  # those that have
    _queue: deque[View] = field(default_factory=deque)  # loaded, waiting for a slot
    _flight: dict[int, View] = field(default_factory=dict)  # by slot
    _halves: defaultdict[int, dict[bool, OptimizationResult]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # by position: the finished views of a picture, by `mirrored`, until both are there
    _outcomes: dict[int, Record | Failure] = field(default_factory=dict)  # by position, until those before are there

    @property
    def reader(self) -> Reader:
        """How its pictures are read."""
        cell = self.autoencoder.downscale_factor or 1
        return Reader(self.size, self.fit, self.background, cell, self.masks)

    def batches(self, pictures: Iterable[LoadedSource], count: int) -> Iterator[list[Record | Failure]]:
        """Records and failures of one pass as they come, in the order of `pictures`.

        pictures: as `prefetch` gives them. An iterator is advanced by exactly `count`, each when a slot is free for it, so
        that successive passes may share one. A picture that is done leaves its slot to the next one.
        Raises `UsageError` where a fixed batch size, or even one picture, does not fit in memory, and `ValueError` where
        `pictures` ends before `count`.
        """
        self.autoencoder.check_size(self.size)
        if self.autoencoder.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.autoencoder.device)
        self._pictures, self._waiting, self._taken, emitted = iter(pictures), count, 0, 0
        self.capacity = self.capacity or count
        if self._limit is None:
            self._limit = self.batch_size or self._auto_batch(self.capacity * self._views)
        while self._waiting or self._queue or self._flight:
            full = False
            try:
                self._fill(self._limit)
                self._advance()
            except torch.OutOfMemoryError:
                full = True
            if full:  # not in the handler: its traceback would keep the failed batch in memory
                self._limit = self._smaller(self._give_up())
            ready = []
            while emitted in self._outcomes:
                ready.append(self._outcomes.pop(emitted))
                emitted += 1
            if ready:
                yield ready
        self._describe()

    def finished(self) -> list[Record | Failure]:
        """What an interrupted pass has finished and not yielded, in the order of its pictures."""
        outcomes = [self._outcomes[position] for position in sorted(self._outcomes)]
        self._outcomes.clear()
        return outcomes

    def _fill(self, limit: int) -> None:
        """Encode and start pictures until no slot is free."""
        most = (self.capacity or 1) * self._views
        free = self._loop.free if self._loop is not None else list(range(min(limit, most)))
        begin = time.perf_counter()
        while self._waiting and len(self._queue) < len(free):
            position, source, image = self._next()
            if isinstance(image, Failure):
                self._outcomes[position] = image
            else:
                self._queue += [View(position, source, image, bool(i)) for i in range(self._views)]
        self._lap("load", begin)
        where = free[: len(self._queue)]
        if where:
            views = [self._queue.popleft() for _ in where]
            self._flight |= dict(zip(where, views, strict=True))  # before anything can run out of memory
            begin = time.perf_counter()
            targets = self._on_device(views)
            latents = self.autoencoder.encode(targets)
            weights = None
            if self.masks is not None:
                weights = torch.cat([view.weight() for view in views]).to(self.autoencoder.device)
            self._lap("encode", begin)
            if self._loop is None:
                begin = time.perf_counter()
                count = len(free)
                self._loop = start_loop(
                    self.autoencoder, self.config,
                    latents[:1].expand(count, *latents.shape[1:]), targets[:1].expand(count, *targets.shape[1:]),
                    weighted=self.masks is not None,
                )  # fmt: skip
                self._lap("compile", begin)
            begin = time.perf_counter()
            warm = warm_start(self.autoencoder, self.config, latents, targets, weights, encoded=latents)
            self._lap("optimize", begin)
            self._loop.load(where, latents, targets, weights, warm)

    def _next(self) -> tuple[int, Source, LoadedImage | Failure]:
        """The next picture of the pass, behind its position."""
        loaded = next(self._pictures, None)
        if loaded is None:
            count = self._taken + self._waiting
            raise ValueError(f"expected {count} pictures, found {self._taken}: give as many as `count` says")
        position = self._taken
        self._taken, self._waiting = self._taken + 1, self._waiting - 1
        return position, loaded.source, loaded.image

    def _advance(self) -> None:
        """One chunk of iterations; pictures that are done leave their slots."""
        if self._loop is None or not self._flight:
            return
        begin = time.perf_counter()
        done = self._loop.advance()
        if self.on_progress is not None:
            begun = sum(self._loop.steps(sorted(self._flight))) / self.config.iterations
            begun += sum(map(len, self._halves.values()))
            self.on_progress(begun / self._views + len(self._outcomes))
        if done:
            results = finish(self.autoencoder, self._loop, done, torch.device("cpu"))
            for slot, result in zip(done, results, strict=True):
                view = self._flight.pop(slot)
                halves = self._halves[view.position]
                halves[view.mirrored] = result
                if len(halves) == self._views:
                    del self._halves[view.position]
                    self._outcomes[view.position] = self._record(view.source, view.image, halves)
        self._lap("optimize", begin)

    @property
    def _views(self) -> int:
        """Targets of each picture."""
        return 1 + self.flip

    def _give_up(self) -> int:
        """Put the pictures in flight back, in their order, and free the loop; returns its number of slots."""
        count = len(self._flight) if self._loop is None else len(self._loop.slots.active)
        views = sorted(self._flight.values(), key=lambda view: (view.position, view.mirrored), reverse=True)
        self._queue.extendleft(views)
        self._flight.clear()
        self._loop = None
        self.autoencoder.loops.clear()
        return count

    def _lap(self, phase: str, begin: float) -> None:
        self.seconds[phase] += time.perf_counter() - begin

    def _describe(self) -> None:
        if self._loop is not None:
            self.engine = {
                "mode": self._loop.mode,
                "batch_size": len(self._loop.slots.active),
                "refinement_iterations": self._loop.refinement_iterations,
                "peak_memory_bytes": peak_memory(self.autoencoder.device),
            }

    def _auto_batch(self, count: int) -> int:
        device = self.autoencoder.device
        return AUTO_BATCH[device.type] if device.type != "cuda" else fastest_batch_size(self._probe_seconds, count)

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
        while count:
            try:
                self._probe_seconds(count)
                return count
            except torch.OutOfMemoryError:
                count //= 2
        return 0

    def _probe_seconds(self, count: int) -> float:
        """Of one eager iteration of `count` pictures. Raises `torch.OutOfMemoryError` where they do not fit."""
        device = self.autoencoder.device
        target = torch.rand(1, 3, self.size, self.size, device=device) * 2 - 1
        latents = self.autoencoder.encode(target)
        latents, targets = latents.repeat(count, 1, 1, 1), target.repeat(count, 1, 1, 1)
        once = replace(
            self.config, iterations=2, compile="off", checkpoint_interval=1, refinement_iterations=0, target_gain=None,
            target_psnr=None, convergence_threshold=0.0,
        )  # fmt: skip
        weights = None if self.masks is None else torch.ones_like(targets[:, :1])
        loop = start_loop(self.autoencoder, once, latents, targets, weighted=weights is not None)
        loop.load(list(range(count)), latents, targets, weights)
        loop.advance()  # chooses algorithms, allocates
        begin = time.perf_counter()
        loop.advance()
        return time.perf_counter() - begin

    def _on_device(self, views: list[View]) -> torch.Tensor:
        """(B, 3, H, W) fp32 in [-1, 1]. They travel as bytes, from pinned memory."""
        pixels = torch.cat([view.pixels() for view in views])
        if self.autoencoder.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.autoencoder.device, non_blocking=True)
        return from_uint8(pixels.to(self.autoencoder.device)).permute(0, 3, 1, 2).contiguous()

    def _record(self, source: Source, image: LoadedImage, results: dict[bool, OptimizationResult]) -> Record | Failure:
        """`results`: of the picture, False, and of its mirror image, True, where that was optimised too."""
        for mirrored, result in sorted(results.items()):
            if not torch.isfinite(result.optimized_latents).all() or not np.isfinite([*result.metrics.values()]).all():
                reason = "NaN or infinity from the start: the encoder's latent does not decode"
                return failure(source, "optimize", f"mirrored: {reason}" if mirrored else reason)
        result = results[False]
        images = {}
        if self.keep_images:
            images = {"original": image.pixels}
            for key, picture in (("initial", result.initial_image), ("optimized", result.optimized_image)):
                images[key] = to_uint8(picture[0]).permute(1, 2, 0).cpu().numpy()
        return Record(
            **vars(_outcome(result)),
            name=source.name,
            split=source.split,
            source_path=source.relative,
            source_sha256=source.sha256 or "",
            original_size=image.original_size,
            conversions=image.conversions,
            images=images,
            flipped=_outcome(results[True]) if self.flip else None,
            target=image.pixels,
        )


def _outcome(result: OptimizationResult) -> Outcome:
    return Outcome(
        initial_latents=result.initial_latents[0].cpu().numpy(),
        optimized_latents=result.optimized_latents[0].cpu().numpy(),
        losses=result.losses,
        convergence_iteration=result.convergence_iteration,
        stop_reason=result.stop_reason,
        metrics=result.metrics,
    )
