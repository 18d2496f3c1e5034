"""The batcher: encodes pictures, optimises them in slots that are refilled, and yields records and failures."""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from ..autoencoders.autoencoder import Autoencoder
from ..inputs.images import BACKGROUND, COLOUR, LoadedImage
from ..inputs.masks import Masks
from ..inputs.prefetch import LoadedSource, Reader
from ..inputs.sizes import Size, size_text
from ..inputs.sources import Source
from ..inputs.views import PLAIN, View, resolve_views
from ..losses.metrics import from_uint8
from ..records import Failure, Record
from ..runtime.allocator import limit_freed_memory
from ..runtime.memory import peak_memory
from ..runtime.torch_modes import default_modes
from .batch_size import BatchSizeProbe, lighter_config
from .config import OptimizationConfig
from .loop import Loop
from .optimizer import OptimizationResult, finish, start_loop
from .outcomes import to_record
from .warm_start import warm_start

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """One view of a picture."""

    position: int  # in the pass
    source: Source
    image: LoadedImage
    view: View

    def pixels(self) -> torch.Tensor:
        """(1, H, W, 3) uint8."""
        return self.view.apply(torch.from_numpy(self.image.pixels).unsqueeze(0))

    def weight(self) -> torch.Tensor:
        """(1, 1, H, W) fp32, how much each pixel counts."""
        return self.view.apply_to_planes(self.image.weight())


@dataclass
class Batcher:
    """Optimises pictures in passes; the slots, the batch size and compiled code are kept between passes.

    Raises `UsageError` for views that do not exist.
    """

    autoencoder: Autoencoder
    config: OptimizationConfig
    size: int | Size  # pixels, multiples of the latent cell
    fit: str = "crop"
    background: str = BACKGROUND
    batch_size: int | None = None  # targets at once, one for each view of a picture; None: auto
    keep_images: bool = True  # hand on the pictures too, uint8: before, encoder's and optimised reconstruction
    views: tuple[str, ...] = (PLAIN,)  # of each picture, by name, each a target of its own; all go into one record
    masks: Masks | None = None  # which pixels of each picture count; None: all
    colour: str = COLOUR  # srgb, or as-is: see `load_image`
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
    _queue: deque[Target] = field(default_factory=deque)  # loaded, waiting for a slot
    _flight: dict[int, Target] = field(default_factory=dict)  # by slot
    _results: defaultdict[int, dict[str, OptimizationResult]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # by position: the finished targets of a picture, by view, until all are there
    _outcomes: dict[int, Record | Failure] = field(default_factory=dict)  # by position, until those before are there
    _seam_psnr: float | None = None  # the least of all targets, dB
    _any_finished: bool = False  # whether there has been a record, in any pass

    def __post_init__(self) -> None:
        self._views = resolve_views(self.views)

    @property
    def reader(self) -> Reader:
        """How the pictures of this batcher are read."""
        cell = self.autoencoder.downscale_factor or 1
        return Reader(self.size, self.fit, self.background, cell, self.masks, self.colour)

    def batches(self, pictures: Iterable[LoadedSource], count: int) -> Iterator[list[Record | Failure]]:
        """Yield the records and failures of one pass as they become available, in the order of `pictures`.

        pictures: as `prefetch` gives them. An iterator is advanced by exactly `count`, each when a slot is free for it, so
        that successive passes may share one. A picture that is done leaves its slot to the next one.
        Raises `ValueError` where `pictures` ends before `count`. Raises `UsageError` where a fixed batch size, or even one
        picture, does not fit in memory; once a picture of this or an earlier pass is finished, `RunStoppedError` instead.
        """
        self.autoencoder.check_size(self.size)
        if self.autoencoder.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.autoencoder.device)
        self._pictures, self._waiting, self._taken, emitted = iter(pictures), count, 0, 0
        self.capacity = self.capacity or count
        if self._limit is None:
            self._limit = self._probe.first(self.capacity * len(self._views))
        while self._waiting or self._queue or self._flight:
            full = False
            try:
                with default_modes(self.autoencoder.device):
                    self._fill(self._limit)
                    self._advance()
            except torch.OutOfMemoryError:
                full = True
            if full:  # not in the handler: its traceback would keep the failed batch in memory
                self._limit = self._fit_in_memory(self._give_up())
            ready = []
            while emitted in self._outcomes:
                ready.append(self._outcomes.pop(emitted))
                emitted += 1
            if ready:
                limit_freed_memory()
                yield ready
        self._describe()

    def finished(self) -> list[Record | Failure]:
        """Return what an interrupted pass has finished and not yielded, in the order of its pictures."""
        outcomes = [self._outcomes[position] for position in sorted(self._outcomes)]
        self._outcomes.clear()
        return outcomes

    @cached_property
    def _probe(self) -> BatchSizeProbe:
        return BatchSizeProbe(self.autoencoder, self.config, self.size, self.batch_size, self.masks is not None)

    def _fit_in_memory(self, count: int) -> int:
        """Return how many targets to go on with after `count` did not fit in memory; raises as `batches`.

        A single one is first optimised with recomputation, which is exact, and then in tiles, whose seams are measured.
        """
        lighter = lighter_config(self.config, self.size, self.autoencoder.downscale_factor or 1) if count == 1 else None
        if lighter is None:
            return self._probe.smaller(count, resumable=self._any_finished)
        what = "with --recompute" if lighter.tile is None else f"in tiles, as with --tile {lighter.tile}"
        logger.warning("one image of %s pixels does not fit in memory; going on %s", size_text(self.size), what)
        self.config = lighter
        self.__dict__.pop("_probe", None)
        return 1

    def _fill(self, limit: int) -> None:
        """Encode and start pictures until no slot is free."""
        most = (self.capacity or 1) * len(self._views)
        free = self._loop.free if self._loop is not None else list(range(min(limit, most)))
        begin = time.perf_counter()
        while self._waiting and len(self._queue) < len(free):
            self._take_picture()
        self._lap("load", begin)
        where = free[: len(self._queue)]
        if where:
            targets = [self._queue.popleft() for _ in where]
            self._flight |= dict(zip(where, targets, strict=True))  # before anything can run out of memory
            self._start(where, targets, len(free))

    def _take_picture(self) -> None:
        """Put the next picture of the pass into the queue or, if it cannot be read, its failure among the outcomes."""
        loaded = next(self._pictures, None)
        if loaded is None:
            count = self._taken + self._waiting
            raise ValueError(f"expected {count} pictures, found {self._taken}: give as many as `count` says")
        position, source, image = self._taken, loaded.source, loaded.image
        self._taken, self._waiting = self._taken + 1, self._waiting - 1
        if isinstance(image, Failure):
            self._outcomes[position] = image
        else:
            self._queue += [Target(position, source, image, view) for view in self._views]

    def _start(self, where: list[int], started: list[Target], slots: int) -> None:
        """Encode these targets and start them in the slots `where`. slots: how many a new loop has."""
        begin = time.perf_counter()
        targets = self._on_device(started)
        latents = self.autoencoder.encode(targets)
        weights = None
        if self.masks is not None:
            weights = torch.cat([target.weight() for target in started]).to(self.autoencoder.device)
        self._lap("encode", begin)
        if self._loop is None:
            begin = time.perf_counter()
            self._loop = start_loop(
                self.autoencoder, self.config,
                latents[:1].expand(slots, *latents.shape[1:]), targets[:1].expand(slots, *targets.shape[1:]),
                weighted=self.masks is not None,
            )  # fmt: skip
            self._lap("compile", begin)
        begin = time.perf_counter()
        warm = warm_start(self.autoencoder, self.config, latents, targets, weights, encoded=latents)
        self._lap("optimize", begin)
        self._loop.load(where, latents, targets, weights, warm)

    def _advance(self) -> None:
        """Run one chunk of iterations; pictures that are done leave their slots."""
        if self._loop is None or not self._flight:
            return
        begin = time.perf_counter()
        done = self._loop.advance()
        if self.on_progress is not None:
            begun = sum(self._loop.steps(sorted(self._flight))) / self.config.iterations
            begun += sum(map(len, self._results.values()))
            self.on_progress(begun / len(self._views) + len(self._outcomes))
        if done:
            results = finish(self.autoencoder, self._loop, done, self.autoencoder.device)
            for slot, result in zip(done, results, strict=True):
                self._collect(self._flight.pop(slot), result)
        self._lap("optimize", begin)

    def _collect(self, target: Target, result: OptimizationResult) -> None:
        """Keep the result of one target; the last one of a picture completes its outcome."""
        results = self._results[target.position]
        results[target.view.name] = result
        if result.seam_psnr is not None:
            self._seam_psnr = min(result.seam_psnr, self._seam_psnr or result.seam_psnr)
        if len(results) == len(self._views):
            del self._results[target.position]
            outcome = to_record(target.source, target.image, results, self.keep_images)
            self._outcomes[target.position] = outcome
            self._any_finished |= isinstance(outcome, Record)

    def _give_up(self) -> int:
        """Put the targets in flight back, in their order, and free the loop; returns its number of slots."""
        count = len(self._flight) if self._loop is None else len(self._loop.slots.active)
        order = {view.name: rank for rank, view in enumerate(self._views)}
        targets = sorted(self._flight.values(), key=lambda target: (target.position, order[target.view.name]))
        self._queue.extendleft(reversed(targets))
        self._flight.clear()
        self._loop = None
        self.autoencoder.cache.clear("loops")
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
            if self.config.recompute:
                self.engine["recompute"] = True
            if self.config.tile is not None:
                self.engine |= {"tile": self.config.tile, "seam_psnr": self._seam_psnr}

    def _on_device(self, targets: list[Target]) -> torch.Tensor:
        """Return the targets as (B, 3, H, W) fp32 in [-1, 1]; they are copied to the device as bytes, from pinned memory."""
        pixels = torch.cat([target.pixels() for target in targets])
        if self.autoencoder.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.autoencoder.device, non_blocking=True)
        return from_uint8(pixels.to(self.autoencoder.device)).permute(0, 3, 1, 2).contiguous()
