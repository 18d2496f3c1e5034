"""Image loading: any file that Pillow reads becomes 8-bit RGB of a given size, and every conversion is recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageColor

from ...kernels.fused_loss import mean_one
from ..errors import ImageError, UsageError
from ..losses.metrics import from_uint8
from .decoding.colour import COLOURS
from .decoding.depth import to_rgb
from .decoding.files import decode
from .fitting import FITS, Scaled, fit_to
from .sizes import Size, as_size

BACKGROUND = "white"  # Colour behind transparent pixels and around padded images.
COLOUR = "srgb"  # What becomes of colours of another space: see `load_image`.


@dataclass(frozen=True)
class LoadedImage:
    """One image, converted and fitted, ready to be an optimisation target."""

    pixels: np.ndarray  # uint8 (H, W, 3), sRGB
    original_size: tuple[int, int]  # Height and width after the EXIF orientation was applied, before fitting.
    conversions: tuple[str, ...]  # The conversions applied, in order; empty for an 8-bit RGB file of the right size.
    mask: np.ndarray | None = None  # uint8 (H, W), the weight of each pixel; see `masks`.
    caption: str = ""  # The text beside the image, empty where there is none; see `captions`.

    def tensor(self) -> torch.Tensor:
        """Return the pixels as (1, 3, H, W), fp32 in [-1, 1]."""
        return from_uint8(torch.from_numpy(self.pixels)).permute(2, 0, 1).unsqueeze(0)

    def weight(self) -> torch.Tensor:
        """Return the weight map, (1, 1, H, W), fp32 of mean 1: the mask, or ones without one."""
        mask = np.ones(self.pixels.shape[:2]) if self.mask is None else self.mask
        return mean_one(torch.from_numpy(mask)[None, None])


def check_fit(fit: str, background: str, colour: str = COLOUR) -> None:
    """Raise `UsageError` for an unknown way to fit or to treat colours, or an unknown colour."""
    if fit not in FITS:
        raise UsageError(f"fit: expected one of {', '.join(FITS)}, found {fit!r}")
    if colour not in COLOURS:
        raise UsageError(f"colour: expected one of {', '.join(COLOURS)}, found {colour!r}")
    try:
        ImageColor.getrgb(background)
    except ValueError as error:
        raise UsageError(f"background: {background!r} is no colour; use a name such as white, or #rrggbb") from error


def load_image(
    path: str | Path,
    size: int | Size | None,
    fit: str = "crop",
    background: str = BACKGROUND,
    cell: int = 8,
    sha256: str | None = None,
    colour: str = COLOUR,
    scaled: Scaled | None = None,
) -> LoadedImage:
    """Read an image, apply its EXIF orientation, convert it to 8-bit sRGB, and fit it to `size`, (width, height) or the
    side of a square; None leaves it its own size.

    fit: `crop` scales the image to cover the size and crops the centre, `pad` scales it to fit inside and fills with
    `background`, `none` demands the exact size. cell: the number of pixels per latent cell, the smallest side allowed.
    sha256: the expected digest of the file, where it must not have changed. colour: `srgb` converts the colours from the
    space that the file states, `as-is` leaves them as they are stored, which is what most trainers see. scaled: to what
    size `crop` scales the image; None: the least that covers `size` and keeps the proportions.
    Raises `ImageError`, which names what is wrong with the file.
    """
    image, conversions = _load(Path(path), background, colour, sha256)
    height, width = image.height, image.width
    if min(height, width) < cell:
        raise ImageError(f"too small: expected at least {cell}×{cell} pixels, one latent cell; found {width}×{height}")
    with _memory(image):
        fitted = image if size is None else fit_to(image, as_size(size), fit, background, conversions, scaled)
        return LoadedImage(np.asarray(fitted, np.uint8).copy(), (height, width), tuple(conversions))


def load_grey(
    path: Path,
    original_size: tuple[int, int],
    size: int | Size,
    fit: str,
    sha256: str | None = None,
    scaled: Scaled | None = None,
) -> np.ndarray:
    """Read a mask as uint8 (H, W).

    The EXIF orientation is applied, transparency becomes black, values are taken as they are stored, and the mask is
    fitted like its image of `original_size` (height, width), so that a pixel's weight is that of the pixels it was
    resampled from; padding is black. sha256, scaled: see `load_image`. Raises `ImageError`, which names what is wrong with the
    file.
    """
    image, conversions = _load(path, "black", "as-is", sha256)
    if (image.height, image.width) != original_size:
        height, width = original_size
        raise ImageError(
            f"wrong size: expected its picture's, {width}×{height} pixels, found {image.width}×{image.height}"
        )
    with _memory(image):
        fitted = fit_to(image.convert("L"), as_size(size), fit, "black", conversions, scaled)
        return np.asarray(fitted, np.uint8).copy()


def _load(path: Path, background: str, colour: str, sha256: str | None) -> tuple[Image.Image, list[str]]:
    """Return the whole picture as 8-bit RGB, and its conversions so far."""
    try:
        decoded = decode(path, sha256)
        conversions = decoded.conversions
        return to_rgb(decoded, background, colour == "as-is", conversions), conversions
    except MemoryError as error:
        raise ImageError("too large for the memory of this machine") from error
    except (OSError, ValueError, SyntaxError, TypeError, ImageCms.PyCMSError) as error:
        raise ImageError(f"cannot convert it: {error}") from error


@contextmanager
def _memory(image: Image.Image) -> Iterator[None]:
    """Raise `ImageError` in words where the block runs out of memory."""
    try:
        yield
    except MemoryError as error:
        raise ImageError(
            f"too large for the memory of this machine: {image.width}×{image.height} pixels, to be fitted"
        ) from error
