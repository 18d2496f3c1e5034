"""Prefetching: worker processes decode pictures ahead of the engine, in order, a bounded number at a time."""

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import ImageError, RunStoppedError
from ..records import Failure
from ..runtime.device import usable_processors
from ..runtime.parent_watchdog import end_with_parent
from .captions import find_caption
from .images import BACKGROUND, COLOUR, LoadedImage, load_image
from .masks import Masks
from .sizes import Size, as_size
from .sizing import Sizing
from .sources import Source

AHEAD = 4  # chunks that each worker may be ahead
CHUNK_BYTES, MOST_IN_CHUNK = 2**20, 32  # small pictures travel together: a queue costs half a millisecond a time
MOST_WORKERS = 8
USUAL_SIZE = 512  # pixels, assumed for chunks of pictures of several sizes


@dataclass(frozen=True)
class Reader:
    """How a picture is read: what `images.load_image` needs, and the masks."""

    size: int | Size | None  # pixels, of sources without a `Source.size` of their own; None: all have one
    fit: str = "crop"
    background: str = BACKGROUND
    cell: int = 1  # pixels of one latent cell
    masks: Masks | None = None
    colour: str = COLOUR  # srgb or as-is
    sizing: Sizing | None = None  # of sources with a size of their own: it may scale them in its own way, too

    def load(self, source: Source) -> "LoadedSource":
        """Return the source together with its picture, or with its failure. Raises nothing, see `read`."""
        return LoadedSource(source, self.read(source))

    def read(self, source: Source) -> LoadedImage | Failure:
        """Return the picture, or its failure. Raises nothing: whatever a file holds, it fails alone."""
        try:
            size = source.size or self.size
            assert size is not None, "a reader without a size needs sources with one"
            scaled = None if self.sizing is None else self.sizing.scaled
            image = load_image(
                source.path, size, self.fit, self.background, self.cell, source.sha256, self.colour, scaled
            )
            caption, remarks = find_caption(source.path)
            image = replace(image, caption=caption, conversions=(*image.conversions, *remarks))
            return image if self.masks is None else self.masks.apply(source, image, size, self.fit, scaled)
        except ImageError as error:
            return failure(source, "load", str(error))
        except MemoryError:
            return failure(source, "load", "too large for the memory of this machine")
        except Exception as error:  # a decoder's own bug
            return failure(source, "load", f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class LoadedSource:
    """A picture of the plan together with what reading its file gave, so that names and pixels cannot be mixed up."""

    source: Source
    image: LoadedImage | Failure


def failure(source: Source, stage: str, reason: str) -> Failure:
    """Return the failure of a picture: the stage in which it failed, and the reason."""
    return Failure(source.name, source.split, source.relative, stage, reason)


def prefetch(
    reader: Reader, keys: Iterable[Any], source: Callable[[Any], Source], workers: int
) -> Generator[LoadedSource, None, None]:
    """Yield each `source(key)` of `keys` with its picture, in their order. workers: processes; 0 reads in this one, as asked for.

    Raises `RunStoppedError` where a worker was killed.
    """
    if workers == 0:
        for key in keys:
            yield reader.load(source(key))
        return
    loader: DataLoader[Any] = DataLoader(
        _Pictures(reader, source),
        batch_size=None,  # a chunk is one item of it
        sampler=_chunks(
            keys, max(1, min(MOST_IN_CHUNK, CHUNK_BYTES // (3 * prod(as_size(reader.size or USUAL_SIZE)))))
        ),
        num_workers=workers,
        prefetch_factor=AHEAD,
        generator=torch.Generator(),  # else it draws from torch's own, which the run has seeded
        # a worker that is forked imports nothing, least of all a script without `if __name__ == "__main__"`
        multiprocessing_context="fork" if sys.platform == "linux" else None,
        worker_init_fn=_begin_worker,
    )
    try:
        for chunk in loader:
            yield from chunk
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise RunStoppedError(
            f"a process that reads pictures died: {reason}; out of memory? Go on with fewer: --workers 0 or 1"
        ) from error


def auto_workers(device_type: str, processes: int = 1) -> int:
    """Return how many processes should read pictures for each of `processes` engines."""
    if device_type == "cpu":
        return 1  # the engine itself needs the processor
    return max(1, min(MOST_WORKERS, usable_processors() // processes - 1))


class _Pictures(Dataset[list[LoadedSource]]):
    def __init__(self, reader: Reader, source: Callable[[Any], Source]):
        self.reader, self.source = reader, source

    def __getitem__(self, keys: list[Any]) -> list[LoadedSource]:
        return [self.reader.load(self.source(key)) for key in keys]


def _chunks(keys: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(keys)
    while chunk := list(islice(rest, size)):
        yield chunk


def _begin_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the run decides what ends
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(5)  # decoding ahead must not slow the thread that feeds the device
    end_with_parent()  # torch's own watch ends no worker whose last picture waits in a full pipe
