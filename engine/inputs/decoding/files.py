"""Opening of picture files: regular files alone, within a limit of pixels, whatever their metadata."""

import hashlib
import io
import re
import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ...errors import ImageError
from ..regular_files import kind_of_file
from ..sizes import Size
from . import png
from .colour import ColourSpace, stated_space
from .optional import load_reader

MAX_PIXELS = (
    # A quarter of a gibibyte of RGB, which is Pillow's own warning limit; a larger file is treated as a decompression
    # bomb.
    89_478_485
)
ORIENTATION = 0x0112  # EXIF tag
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height
HEAD = 4096  # bytes of a file that tell of what kind it is
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PPM = re.compile(rb"P[36](?:(?:\s|#[^\n]*\n)+(\d+)){3}")  # width, height, largest value
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # TIFF tags
FAULTS = (  # what decoders raise for damaged files
    OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, OverflowError, RuntimeError, struct.error,
)  # fmt: skip


@dataclass
class Decoded:
    """A picture as its file holds it, upright."""

    image: Image.Image
    space: ColourSpace | None = None  # None: sRGB, or not stated
    bits: int = 8  # per channel, in the file
    white_is_zero: bool = False  # whether the values have still to be inverted
    conversions: list[str] = field(default_factory=list)  # what was done so far


def decode(path: Path, sha256: str | None = None) -> Decoded:
    """Read a file and decode it, its first frame alone, turned upright.

    sha256: the expected digest of the file, where it must not have changed. Raises `ImageError`, which names what is
    wrong with the file.
    """
    content = _read(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ImageError("changed since the run was planned")
    conversions: list[str] = []
    image = _open(content, conversions)
    decoded = Decoded(image, stated_space(content, image.info.get("icc_profile")), conversions=conversions)
    _read_depth(decoded, content)
    _turn_upright(decoded)
    return decoded


def read_size(path: str) -> Size | None:
    """Return the (width, height) of a picture in pixels, upright, from its header; None where it cannot be read.

    A picture whose header Pillow refuses is decoded as a whole, so that its size is known wherever it can be loaded.
    """
    try:
        if kind_of_file(path):
            return None
        with open(path, "rb") as file:
            load_reader(file.read(HEAD))
            with Image.open(file) as image:
                width, height = image.size
                return (height, width) if _orientation(image) in SIDEWAYS else (width, height)
    except Exception:  # whatever a file holds, it fails alone, with its reason, when it is loaded
        try:
            return decode(Path(path)).image.size
        except Exception:
            return None


def _read(path: Path) -> bytes:
    try:
        if kind := kind_of_file(path):
            raise ImageError(f"unreadable: {kind}, expected a regular file")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"damaged or unreadable: {error}") from error


def _open(content: bytes, conversions: list[str]) -> Image.Image:
    """Return the decoded picture; a PNG whose metadata Pillow refuses is read without them."""
    load_reader(content)
    try:
        try:
            return _load(content, conversions)
        except FAULTS as error:
            bare = png.without_metadata(content) if png.is_png(content) else content
            if len(bare) == len(content):
                raise
            try:
                image = _load(bare, conversions)
            except FAULTS:
                raise error from None
            conversions.append("metadata left out that cannot be read")
            return image
    except UnidentifiedImageError as error:
        raise ImageError("no image that Pillow knows") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error
    except FAULTS as error:
        raise ImageError(f"damaged or unreadable: {' '.join(str(error).split()) or type(error).__name__}") from error


def _load(content: bytes, conversions: list[str]) -> Image.Image:
    with warnings.catch_warnings():
        # The size is checked below, against the same limit. Damaged metadata is no news to the user.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)
        image = Image.open(io.BytesIO(content))
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"too large: {image.width}×{image.height} pixels, over the limit of {MAX_PIXELS}")
    frames = getattr(image, "n_frames", 1)
    image.load()
    if frames > 1:
        conversions.append(f"first of {frames} frames")
    return image


def _read_depth(decoded: Decoded, content: bytes) -> None:
    """Set what Pillow does not tell of the bits per channel, and correct what it gets wrong by them."""
    image = decoded.image
    if image.format == "PNG" and png.is_png(content):
        decoded.bits, kind = png.depth(content)
        transparent = image.info.get("transparency")
        if kind == 0 and decoded.bits in (2, 4) and isinstance(transparent, int):
            image.info["transparency"] = transparent * 255 // (2**decoded.bits - 1)
        if kind == 2 and decoded.bits == 16 and isinstance(transparent, tuple):
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        if kind == 4 and image.mode == "RGBA":
            decoded.image = image.convert("LA")
    elif image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits = tags.get(BITS_PER_SAMPLE, (8,))
        decoded.bits = max(bits) if isinstance(bits, tuple) else bits
        decoded.white_is_zero = tags.get(PHOTOMETRIC) == 0 and image.mode.startswith("I;16")
    elif image.mode.startswith("I"):
        decoded.bits = 16
    elif found := PPM.match(content):
        decoded.bits = max(8, int(found[1]).bit_length())
    elif content[4:12] == b"jP  \r\n\x87\n" and (place := content.find(b"ihdr", 0, 256)) > 0:  # JPEG 2000
        stated = content[place + 14]
        decoded.bits = 8 if stated == 255 else (stated & 127) + 1  # 255: each channel has its own
    elif content[4:8] == b"ftyp" and (place := content.find(b"pixi", 0, 2**16)) > 0:  # HEIC, AVIF
        decoded.bits = content[place + 9]


def _turn_upright(decoded: Decoded) -> None:
    """Apply the EXIF orientation."""
    image = decoded.image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            orientation = _orientation(image)
    except Exception:  # whatever Pillow makes of a damaged block: it is no reason to lose the picture
        decoded.conversions.append("EXIF left out, which cannot be read")
        return
    if orientation in TURNS:
        decoded.conversions.append(f"EXIF orientation {orientation} applied")
        decoded.image = image.transpose(TURNS[orientation])


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that has still to be applied; 1 where there is none."""
    # JPEG XL is turned by its decoder, except for a JPEG that was packed into it
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    found: int = image.getexif().get(ORIENTATION, 1)
    return found
