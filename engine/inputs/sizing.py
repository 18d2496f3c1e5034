"""The target size of each picture, in runs whose pictures have several sizes."""

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING

from ..errors import ImageError, UsageError
from .decoding.files import read_size
from .fitting import covering_size
from .sizes import Size, size_text
from .sources import Source

if TYPE_CHECKING:
    from .buckets.rule import BucketRule

NATIVE_PIXELS = 2**22  # the largest target of `--native` by default
THREADS = 8  # threads that read the pictures' sizes: the disk is slower than they are


class Sizing(ABC):
    """A rule that gives each picture the size of its target."""

    @abstractmethod
    def target(self, found: Size) -> Size:
        """Return the size of the target of a picture of size `found`, both (width, height) in pixels.

        Raises `ImageError` for a picture that is too small for the rule.
        """

    def scaled(self, found: Size, target: Size) -> Size:
        """Return the size to which a picture of size `found` is scaled before it is cropped to `target`."""
        return covering_size(found, target)


@dataclass(frozen=True)
class NativeSizing(Sizing):
    """Each picture keeps its size, to the nearest whole number of latent cells, up to a number of pixels."""

    cell: int  # pixels of one latent cell
    max_pixels: int = NATIVE_PIXELS

    def target(self, found: Size) -> Size:
        shrink = min(1.0, sqrt(self.max_pixels / (found[0] * found[1])))
        width, height = (max(1, round(side * shrink / self.cell)) for side in found)
        while width * height * self.cell**2 > self.max_pixels and max(width, height) > 1:
            width, height = (width - 1, height) if width >= height else (width, height - 1)
        return width * self.cell, height * self.cell


@dataclass(frozen=True)
class BucketSizing(Sizing):
    """Each picture gets the size that a trainer would give it."""

    rule: "BucketRule"
    cell: int  # pixels of one latent cell

    def target(self, found: Size) -> Size:
        """Raises `UsageError` for a size of the trainer's that is not a whole number of latent cells."""
        size = self.rule.target(found)
        if any(side % self.cell for side in size):
            raise UsageError(
                f"buckets: the trainer's size for a picture of {size_text(found)} pixels is {size_text(size)}, which is no "
                f"whole number of the autoencoder's latent cells of {self.cell} pixels; add step={self.cell} to the rule"
            )
        return size

    def scaled(self, found: Size, target: Size) -> Size:
        """The least that covers the target, or the trainer's own where that loses less, by squeezing the picture a little."""
        covering = covering_size(found, target)
        try:
            resized, size = self.rule.fit(found)
        except ImageError:
            return covering
        covers = all(whole >= side for whole, side in zip(resized, target, strict=True))
        return resized if size == target and covers and prod(resized) < prod(covering) else covering


def make_sizing(buckets: str | None, native: bool, max_pixels: int | None, cell: int) -> Sizing | None:
    """Return the rule for these settings; None where all targets have one size.

    cell: pixels of one latent cell. Raises `UsageError` for an unknown rule, and for settings that exclude each other.
    """
    if buckets is not None and native:
        raise UsageError("buckets and native exclude each other: each is a rule for the size of every picture")
    if max_pixels is not None and not native:
        raise UsageError("max_pixels limits the pictures of --native; without it, use --size or --buckets")
    if native:
        limit = NATIVE_PIXELS if max_pixels is None else max_pixels
        if limit < cell * cell:
            raise UsageError(f"max_pixels: expected at least {cell * cell}, one latent cell, found {limit}")
        return NativeSizing(cell, limit)
    if buckets is None:
        return None
    from .buckets.registry import parse_buckets

    return BucketSizing(parse_buckets(buckets), cell)


def assign_sizes(sources: Sequence[Source], sizing: Sizing, usual: Size | None = None) -> list[Source]:
    """Return the sources with the sizes of their targets, those of one size together, in the order of their first.

    Reads the header of every file. A file that cannot be read gets the size `usual`, None being the most frequent one;
    the run lists it as failed.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = [_target(sizing, found) for found in pool.map(read_size, (source.path for source in sources))]
    counts = Counter(size for size in sizes if size is not None)
    if usual is None:
        if not counts:
            raise UsageError("no picture of the input can be read: none has a size")
        usual = counts.most_common(1)[0][0]
    groups: dict[Size, list[Source]] = {}
    for source, size in zip(sources, sizes, strict=True):
        groups.setdefault(size or usual, []).append(dataclasses.replace(source, size=size or usual))
    return [source for group in groups.values() for source in group]


def _target(sizing: Sizing, found: Size | None) -> Size | None:
    """Return the target's size; None where the picture's own size is unknown, or too small for the rule."""
    try:
        return None if found is None else sizing.target(found)
    except ImageError:
        return None
