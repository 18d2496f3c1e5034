"""Pictures of any mode and bit depth to 8-bit RGB in sRGB, over a stated background; each conversion is recorded."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from ...errors import ImageError
from .colour import to_srgb
from .files import Decoded

BLOCK = 2**20  # values converted at once, so that the memory for wide types stays small


def to_rgb(decoded: Decoded, background: str, as_is: bool, conversions: list[str]) -> Image.Image:
    """Return the picture as 8-bit RGB. as_is: leave its colours as they are stored, whatever space it states.

    Raises `ImageError` for values whose range is unknown.
    """
    image = decoded.image
    if image.mode in ("CMYK", "LAB"):
        return _managed(image, conversions)
    straight = _straight(decoded, conversions)
    straight = to_srgb(straight, None if as_is else decoded.space, conversions)
    if straight.mode == "I;16":
        straight = Image.fromarray(_narrowed(np.asarray(straight), 65535))
    if straight.mode not in ("LA", "RGBA"):
        return straight.convert("RGB")
    kind = "16-bit grey" if image.mode.startswith("I") else image.mode
    conversions.append(f"{kind} composited over {background}")
    canvas = Image.new("RGBA", straight.size, background)
    return Image.alpha_composite(canvas, straight.convert("RGBA")).convert("RGB")


def _straight(decoded: Decoded, conversions: list[str]) -> Image.Image:
    """Return the picture as L, LA, RGB, RGBA with alpha that is not multiplied in, or I;16 of full range."""
    image, mode = decoded.image, decoded.image.mode
    transparent = "transparency" in image.info
    if mode == "F":
        conversions.append("float grey to 8-bit RGB, full range kept")
        return Image.fromarray(_float_to_8_bit(image))
    if mode.startswith("I"):
        return _deep_grey(decoded, conversions)
    if decoded.bits > 8:
        conversions.append(f"{decoded.bits}-bit {mode} to 8-bit")
    if mode in ("PA", "La", "RGBa") or (transparent and mode in ("P", "RGB", "1")):
        return image.convert("RGBA")
    if mode == "L" and transparent:
        return image.convert("LA")
    if mode in ("LA", "RGB", "RGBA"):
        return image
    conversions.append(f"{mode} to RGB")
    return image.convert("L" if mode in ("1", "L") else "RGB")


def _deep_grey(decoded: Decoded, conversions: list[str]) -> Image.Image:
    """Return greyscale of 9 to 16 bits as 8 bits, or as I;16 of full range where its colours are still to be converted.

    Pillow's own conversion saturates above 255 instead of scaling, and ignores transparency.
    """
    image = decoded.image
    values = np.asarray(image)
    if image.mode == "I":
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ImageError(f"an integer picture from {low} to {high}: expected 16 bits, 0 to 65535")
    most = 2**decoded.bits - 1 if 8 < decoded.bits < 16 else 65535
    values = values.astype(np.uint16)
    transparent: Any = image.info.get("transparency")
    alpha = None if not isinstance(transparent, int) else np.where(values == transparent, 0, 255).astype(np.uint8)
    if decoded.white_is_zero:
        values = most - values
    conversions.append(f"{most.bit_length()}-bit grey to 8-bit RGB, full range kept")
    if alpha is not None:
        return Image.merge("LA", (Image.fromarray(_narrowed(values, most)), Image.fromarray(alpha)))
    if decoded.space is None:
        return Image.fromarray(_narrowed(values, most))
    return Image.fromarray(_spread(values, most))


def _narrowed(values: np.ndarray, most: int) -> np.ndarray:
    """Return integers of 0 to `most` as 0 to 255."""
    return np.round(np.arange(65536) * (255.0 / most)).clip(0, 255).astype(np.uint8)[values]


def _spread(values: np.ndarray, most: int) -> np.ndarray:
    """Return integers of 0 to `most` as 0 to 65535."""
    return (
        values
        if most == 65535
        else np.round(np.arange(65536) * (65535 / most)).clip(0, 65535).astype(np.uint16)[values]
    )


def _float_to_8_bit(image: Image.Image) -> np.ndarray:
    """Return a floating-point picture of 0 to 1 as 0 to 255."""
    values = np.asarray(image)
    # NaN compares as false
    if not (values.min() >= 0.0 and values.max() <= 1.0):
        raise ImageError("a floating-point picture outside [0, 1]: its range is unknown; save it as 16-bit")
    found = np.empty(values.shape, np.uint8)
    rows = max(1, BLOCK // values.shape[1])
    for start in range(0, len(values), rows):
        found[start : start + rows] = np.round(values[start : start + rows].astype(np.float64) * 255.0)
    return found


def _managed(image: Image.Image, conversions: list[str]) -> Image.Image:
    """Convert CMYK through its embedded profile where there is one, else by Pillow's plain inversion, and Lab through
    littleCMS.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        conversions.append("LAB to sRGB")
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "LAB", "RGB").apply(image)
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            found = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "CMYK", "RGB").apply(image)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            reason = str(error).replace(";", ",")
            conversions.append(f"CMYK to RGB without its profile, which is unusable: {reason}")
            return image.convert("RGB")
        conversions.append("CMYK to sRGB by its embedded profile")
        return found
    conversions.append("CMYK to RGB without a profile")
    return image.convert("RGB")
