"""Picture files to compressed files and back, as `relatent codec compress`, `refine` and `decompress` do it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ...engine.errors import ImageError, UsageError
from ...engine.inputs.images import load_image
from ...engine.inputs.regular_files import kind_of_file
from ...engine.runtime.atomic import atomic_path
from .bitstream.container import MAGIC, model_of
from .bitstream.image_codec import ImageCodec
from .bundled import find_codec
from .errors import BitstreamError
from .measures import measure

if TYPE_CHECKING:
    from .refinement.config import RefinementConfig

MAX_PIXELS = 1 << 25  # decoded unless more are asked for, padded; the small model then takes about 2 GiB
FORMATS = {".png": "PNG", ".bmp": "BMP", ".ppm": "PPM", ".tif": "TIFF", ".tiff": "TIFF"}  # they keep every pixel
_BYTES_PER_PIXEL, _MORE_BYTES = 8, 1 << 20  # no compressed picture is larger: a sound one has far below 1 per pixel


def compress_file(
    source: Path,
    destination: Path,
    codec: ImageCodec,
    refinement: "RefinementConfig | None" = None,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Compress a picture's file to `destination`, atomically; an older file of this codec there is replaced.

    The picture is read as the engine reads all pictures: upright, in sRGB, transparency over white, 8 bits. refinement: how
    its latents are optimised first; None leaves them as the encoder gives them. on_progress: called with the fraction of the
    refinement that is done.
    Returns what the command prints as JSON: bytes, bpp, psnr (dB, of the decoded 8-bit picture), rd_cost, and more. Raises
    ImageError for a picture that cannot be read, UsageError for one too large and for a destination that is another file.
    """
    _check_compressed(destination)
    try:
        loaded = load_image(source, None, cell=1)
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from error
    image = torch.from_numpy(loaded.pixels).permute(2, 0, 1)
    begin = time.perf_counter()
    refined: dict[str, Any] = {}
    with _memory(source):
        if refinement is None:
            encoded = codec.encode(image)
        else:
            from .refinement.refine import refine

            (found,) = refine(codec, [image], refinement, on_progress)
            encoded = found.encoded
            refined = {"before": asdict(found.before), "kept": found.kept, "refinement": asdict(refinement)}
    seconds = time.perf_counter() - begin
    with atomic_path(destination) as temporary:
        temporary.write_bytes(encoded.data)
    return {
        "path": str(destination),
        **asdict(measure(image, encoded, codec.lmbda)),
        "width": image.shape[2],
        "height": image.shape[1],
        "stream_bytes": encoded.stream_bytes,
        "lambda": codec.lmbda,
        "model": codec.sha256.hex(),
        "conversions": list(loaded.conversions),
        "seconds": seconds,
        **refined,
    }


def decompress_file(
    source: Path,
    destination: Path,
    codec: ImageCodec | None = None,
    max_pixels: int = MAX_PIXELS,
    replace: bool = False,
) -> dict[str, Any]:
    """Decode a compressed file to a picture's file, atomically, in the format of its ending, one of `FORMATS`.

    codec: None finds the bundled model that the file was written with. max_pixels: see
    `ImageCodec.decompress`; it bounds memory and time whatever the file says. replace: whether an existing destination is replaced.
    Returns what the command prints as JSON. Raises BitstreamError for a file that cannot be decoded, UsageError for a
    destination that cannot be written so.
    """
    format = _check_picture(destination, replace)
    data = _read(source, max_pixels)
    begin = time.perf_counter()
    quality = None
    try:
        if codec is None:
            quality, codec = find_codec(model_of(data))
        with _memory(source):
            picture = codec.decompress(data, max_pixels)
    except BitstreamError as error:
        raise BitstreamError(f"{source}: {error}") from error
    seconds = time.perf_counter() - begin
    height, width = picture.shape[1:]
    with atomic_path(destination) as temporary:
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(temporary, format)
    return {
        "path": str(destination),
        "width": width,
        "height": height,
        "bytes": len(data),
        "bpp": 8 * len(data) / (width * height),
        "quality": quality,
        "model": codec.sha256.hex(),
        "seconds": seconds,
    }


def _check_compressed(destination: Path) -> None:
    """Raise UsageError where `destination` is anything but absent or a file of this codec."""
    if not os.path.lexists(destination):
        return
    if destination.is_file():
        with destination.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return
    raise UsageError(f"{destination} is there already and no file of this codec: choose another name, or move it away")


def _check_picture(destination: Path, replace: bool) -> str:
    """The format to write. Raises UsageError where the ending is not that of a lossless format, or something is there already."""
    format = FORMATS.get(destination.suffix.lower())
    if format is None:
        raise UsageError(f"{destination}: expected a name that ends in {', '.join(FORMATS)}, which keep every pixel")
    if os.path.lexists(destination) and not (replace and destination.is_file()):
        raise UsageError(f"{destination} is there already: choose another name, or --force replaces a file")
    return format


def _read(source: Path, max_pixels: int) -> bytes:
    """A compressed file's bytes; nothing of a file that is foreign or larger than any of max_pixels."""
    try:
        if kind := kind_of_file(source):
            raise BitstreamError(f"{source} is {kind}, expected a file")
        with source.open("rb") as file:
            head = file.read(len(MAGIC))
            if head != MAGIC:
                return head
            if os.fstat(file.fileno()).st_size > _MORE_BYTES + _BYTES_PER_PIXEL * max_pixels:
                raise BitstreamError(f"{source} is larger than any compressed picture of {max_pixels} pixels")
            return head + file.read()
    except (OSError, ValueError) as error:
        raise BitstreamError(f"{source} cannot be read: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _memory(source: Path) -> Iterator[None]:
    """Raise UsageError in words where the block runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise UsageError(f"{source}: the picture is too large for the memory of this machine") from error
