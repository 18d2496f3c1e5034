"""Image loading: any file that Pillow reads becomes 8-bit RGB of a given size, and every conversion is recorded."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from ...kernels.fused_loss import mean_one
from ..errors import ImageError, UsageError
from ..losses.metrics import from_uint8
from .sizes import Size, as_size, size_text

FITS = ("crop", "pad", "none")
BACKGROUND = "white"  # Colour behind transparent pixels and around padded images.
MAX_PIXELS = (
    # A quarter of a gibibyte of RGB, which is Pillow's own warning limit; a larger file is treated as a decompression
    # bomb.
    89_478_485
)


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


def check_fit(fit: str, background: str) -> None:
    """Raise `UsageError` for an unknown way to fit or an unknown colour."""
    if fit not in FITS:
        raise UsageError(f"fit: expected one of {', '.join(FITS)}, found {fit!r}")
    try:
        ImageColor.getrgb(background)
    except ValueError as error:
        raise UsageError(f"background: {background!r} is no colour; use a name such as white, or #rrggbb") from error


def load_image(
    path: str | Path,
    size: int | Size,
    fit: str = "crop",
    background: str = BACKGROUND,
    cell: int = 8,
    sha256: str | None = None,
) -> LoadedImage:
    """Read an image, apply its EXIF orientation, convert it to 8-bit RGB, and fit it to `size`, (width, height) or the
    side of a square.

    fit: `crop` scales the image to cover the size and crops the centre, `pad` scales it to fit inside and fills with
    `background`, `none` demands the exact size. cell: the number of pixels per latent cell, the smallest side allowed.
    sha256: the expected digest of the file, where it must not have changed.
    Raises `ImageError`, which names what is wrong with the file.
    """
    conversions: list[str] = []
    image = _open(Path(path), sha256)
    try:
        image = _to_rgb(_upright(image, conversions), background, conversions)
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError, MemoryError, ImageCms.PyCMSError) as error:
        raise ImageError(f"cannot convert it: {error}") from error
    height, width = image.height, image.width
    if min(height, width) < cell:
        raise ImageError(f"too small: expected at least {cell}×{cell} pixels, one latent cell; found {width}×{height}")
    fitted = _fit(image, as_size(size), fit, background, conversions)
    return LoadedImage(np.asarray(fitted, np.uint8).copy(), (height, width), tuple(conversions))


def load_grey(
    path: Path, original_size: tuple[int, int], size: int | Size, fit: str, sha256: str | None = None
) -> np.ndarray:
    """Read a mask as uint8 (H, W).

    The EXIF orientation is applied, transparency becomes black, and the mask is fitted like its image of
    `original_size` (height, width), so that a pixel's weight is that of the pixels it was resampled from; padding is
    black. sha256: see `load_image`. Raises `ImageError`, which names what is wrong with the file.
    """
    conversions: list[str] = []
    image = _open(path, sha256)
    try:
        image = _to_rgb(_upright(image, conversions), "black", conversions).convert("L")
    except (OSError, ValueError, SyntaxError, MemoryError, ImageCms.PyCMSError) as error:
        raise ImageError(f"cannot convert it: {error}") from error
    if (image.height, image.width) != original_size:
        height, width = original_size
        raise ImageError(
            f"wrong size: expected its picture's, {width}×{height} pixels, found {image.width}×{image.height}"
        )
    return np.asarray(_fit(image, as_size(size), fit, "black", conversions), np.uint8).copy()


def _open(path: Path, sha256: str | None = None) -> Image.Image:
    try:
        content = path.read_bytes()
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise ImageError("changed since the run was planned")
        with warnings.catch_warnings():
            # The size is checked below, against the same limit.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(f"too large: {image.width}×{image.height} pixels, over the limit of {MAX_PIXELS}")
        image.load()
        return image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("no image that Pillow knows") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error
    except (OSError, ValueError, SyntaxError, MemoryError, EOFError) as error:
        raise ImageError(f"damaged or unreadable: {error}") from error


def _upright(image: Image.Image, conversions: list[str]) -> Image.Image:
    if getattr(image, "n_frames", 1) > 1:
        conversions.append(f"first of {image.n_frames} frames")  # type: ignore[attr-defined]
    orientation = image.getexif().get(0x0112, 1)
    if orientation == 1:
        return image
    conversions.append(f"EXIF orientation {orientation} applied")
    return ImageOps.exif_transpose(image)


def _to_rgb(image: Image.Image, background: str, conversions: list[str]) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith(("I", "F")):
        conversions.append(f"{'16-bit' if mode.startswith('I') else 'float'} grey to 8-bit RGB, full range kept")
        return Image.fromarray(_grey_to_8_bit(image)).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        conversions.append(f"{mode} composited over {background}")
        canvas = Image.new("RGBA", image.size, background)
        return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
    if mode in ("CMYK", "LAB"):
        return _managed(image, conversions)
    conversions.append(f"{mode} to RGB")
    return image.convert("RGB")


def _grey_to_8_bit(image: Image.Image) -> np.ndarray:
    """Return a greyscale image of any depth as 8 bits: Pillow's own conversion saturates above 255 instead of scaling."""
    values = np.asarray(image, np.float64)
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0.0 or values.max() > 1.0:
            raise ImageError("a floating-point picture outside [0, 1]: its range is unknown; save it as 16-bit")
        return np.round(values * 255.0).astype(np.uint8)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"an integer picture from {values.min():g} to {values.max():g}: expected 16 bits, 0 to 65535")
    return np.round(values / 257.0).astype(np.uint8)  # 257 = 65535 / 255


def _managed(image: Image.Image, conversions: list[str]) -> Image.Image:
    """Convert CMYK through its embedded profile where there is one, else by Pillow's plain inversion, and Lab through
    littleCMS.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        conversions.append("LAB to sRGB")
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif profile:
        conversions.append("CMYK to sRGB by its embedded profile")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    else:
        conversions.append("CMYK to RGB without a profile")
        return image.convert("RGB")
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, "RGB")
    return transform.apply(image)


def _fit(image: Image.Image, size: Size, fit: str, background: str, conversions: list[str]) -> Image.Image:
    if image.size == size:
        return image
    found = f"{image.width}×{image.height}"
    if fit == "none":
        raise ImageError(
            f"wrong size: expected {size_text(size)} pixels, found {found}; --fit crop or pad would resize it"
        )
    if fit == "pad":
        conversions.append(f"{found} padded to {size_text(size)}, bilinear")
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=background)
    # For squares equal to vae-toolkit's processor to the pixel: torchvision's Resize of the shorter side, bilinear with
    # antialiasing, and its CenterCrop. The choice of filter matters: with Lanczos the same photographs reconstruct 2 dB
    # worse.
    conversions.append(f"{found} cropped to {size_text(size)}, bilinear")
    covering = covering_size(image.size, size)
    left, top = (round((whole - side) / 2.0) for whole, side in zip(covering, size, strict=True))
    return image.resize(covering, Image.Resampling.BILINEAR).crop((left, top, left + size[0], top + size[1]))


def covering_size(found: Size, size: Size) -> Size:
    """Return the least size that covers `size` and has the aspect ratio of `found`, rounded down to whole pixels."""
    (width, height), (least_width, least_height) = found, size
    if width * least_height < least_width * height:  # narrower than asked for: the width decides
        return least_width, int(least_width * height / width)
    return int(least_height * width / height), least_height
