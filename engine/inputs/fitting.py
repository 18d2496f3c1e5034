"""Fitting of a picture to the size of its target: cropped, padded, or as it is."""

from collections.abc import Callable
from math import prod

from PIL import Image, ImageOps

from ..errors import ImageError
from .sizes import Size, size_text

FITS = ("crop", "pad", "none")
MOST_SCALED = 4  # times the crop: a larger scaled picture is never made as a whole


# (width, height) of a picture and of its target -> to which it is scaled before it is cropped to the target
Scaled = Callable[[Size, Size], Size]


def fit_to(
    image: Image.Image, size: Size, fit: str, background: str, conversions: list[str], scaled: Scaled | None = None
) -> Image.Image:
    """Return the picture in that size; see `images.load_image`. Raises `ImageError` where it does not fit."""
    if image.size == size:
        return image
    found = f"{image.width}×{image.height}"
    if fit == "none":
        raise ImageError(
            f"wrong size: expected {size_text(size)} pixels, found {found}; --fit crop or pad would resize it"
        )
    if fit == "pad":
        if round(min(image.size) * min(side / own for side, own in zip(size, image.size, strict=True))) < 1:
            raise ImageError(f"too narrow: of {found} pixels nothing is left in {size_text(size)}; use --fit crop")
        conversions.append(f"{found} padded to {size_text(size)}, bilinear")
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=background)
    # For squares equal to vae-toolkit's processor to the pixel: torchvision's Resize of the shorter side, bilinear with
    # antialiasing, and its CenterCrop. The choice of filter matters: with Lanczos the same photographs reconstruct 2 dB
    # worse.
    covering = covering_size(image.size, size)
    if scaled is not None and covering != (wanted := scaled(image.size, size)):
        covering, found = wanted, f"{found} scaled to {size_text(wanted)}"
    conversions.append(f"{found} cropped to {size_text(size)}, bilinear")
    left, top = (round((whole - side) / 2.0) for whole, side in zip(covering, size, strict=True))
    if prod(covering) <= max(MOST_SCALED * prod(size), prod(image.size)):
        return image.resize(covering, Image.Resampling.BILINEAR).crop((left, top, left + size[0], top + size[1]))
    # a strip that would be scaled up to many times the crop: the same pixels, without the rest
    across, down = (own / whole for own, whole in zip(image.size, covering, strict=True))
    box = (
        left * across,
        top * down,
        min((left + size[0]) * across, image.width),
        min((top + size[1]) * down, image.height),
    )
    return image.resize(size, Image.Resampling.BILINEAR, box=box)


def covering_size(found: Size, size: Size) -> Size:
    """Return the least size that covers `size` and has the aspect ratio of `found`, rounded down to whole pixels."""
    (width, height), (least_width, least_height) = found, size
    if width * least_height < least_width * height:  # narrower than asked for: the width decides
        return least_width, int(least_width * height / width)
    return int(least_height * width / height), least_height
