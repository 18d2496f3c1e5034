"""Colour spaces: what a file says of its own, and the conversion to sRGB by littleCMS."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from PIL import Image, ImageCms

from . import png
from .icc import D65, Chromaticity, Curve, grey_profile, rgb_profile, srgb_curve

COLOURS = ("srgb", "as-is")
NAME_LENGTH = 60  # characters of a profile's name that are recorded
SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
NEAR = 0.05  # libpng's threshold: a gamma that differs less from 1 / 2.2 is none, and stands for sRGB's curve
CHROMATICITY_NEAR = 0.002
C, DCI = (0.310, 0.316), (0.314, 0.351)  # whites of older systems
PRIMARIES: dict[int, tuple[tuple[Chromaticity, ...], Chromaticity]] = {  # ITU-T H.273, table 2
    1: (SRGB_PRIMARIES, D65),
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), C),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    7: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    8: (((0.681, 0.319), (0.243, 0.692), (0.145, 0.049)), C),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    11: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), DCI),
    12: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), D65),
    22: (((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)), D65),
}
UNSPECIFIED = 2


def _power(gamma: float, values: np.ndarray) -> np.ndarray:
    return values**gamma


def _perceptual_quantiser(values: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084; white is BT.2408's reference white, 203 of 10000 cd/m², and what is brighter is clipped."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = values ** (1 / m2)
    return (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1) * (10_000 / 203)


def _hybrid_log_gamma(values: np.ndarray) -> np.ndarray:
    """BT.2100 on a display of 1000 cd/m²; white is BT.2408's reference white, at 75 %, and what is brighter is clipped."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    return scene**1.2 / 0.203


# H.273, table 3. The curves of BT.709, BT.601 and BT.2020 are those of cameras; such pictures are shown as sRGB.
CURVES: dict[int, Curve] = {
    1: srgb_curve,
    UNSPECIFIED: srgb_curve,
    4: partial(_power, 2.2),
    5: partial(_power, 2.8),
    6: srgb_curve,
    8: partial(_power, 1.0),
    13: srgb_curve,
    14: srgb_curve,
    15: srgb_curve,
    16: _perceptual_quantiser,
    18: _hybrid_log_gamma,
}


@dataclass(frozen=True)
class ColourSpace:
    """What a file says of its colours."""

    stated: str  # how, for the record, such as "its embedded profile"
    profile: Callable[[bool], bytes]  # whether the picture is grey -> the ICC profile


def stated_space(content: bytes, embedded: bytes | None) -> ColourSpace | None:
    """Return the colour space that a file states; None where it states none, or sRGB.

    embedded: its ICC profile as Pillow found it. A PNG's cICP goes before its profile, that before its sRGB, gAMA and
    cHRM, as the standard has it. Of HEIC and AVIF the profile goes before the numbers (nclx).
    """
    if not png.is_png(content):
        if embedded:
            return ColourSpace("its embedded profile", lambda grey: embedded)
        return _numbers(*_nclx(content))
    chunks = png.colour_chunks(content)
    if len(numbers := chunks.get(b"cICP", b"")) == 4 and numbers[2] == 0:
        return _numbers(numbers[0], numbers[1], bool(numbers[3]))
    if b"iCCP" in chunks:
        return ColourSpace("its embedded profile", lambda grey: png.profile(chunks[b"iCCP"]))
    if b"sRGB" in chunks:
        return None
    return _gamma_and_primaries(chunks.get(b"gAMA"), chunks.get(b"cHRM"))


def to_srgb(image: Image.Image, space: ColourSpace | None, conversions: list[str]) -> Image.Image:
    """Return a picture of mode L, LA, I;16, RGB or RGBA in sRGB, with its transparency as it was.

    Pixels that are in sRGB already, by what their profile does, are left untouched. A space that cannot be used is
    recorded, and the picture taken as sRGB.
    """
    if space is None:
        return image
    grey = image.mode in ("L", "LA", "I;16")
    try:
        profile = space.profile(grey)
        name, kind = _describe(profile)
        if grey and kind == "RGB":
            image = _grey_as_rgb(image) if _transform(profile, "RGB") else image
        transform = _transform(profile, "L" if kind == "GRAY" else "RGB")
        if transform is None:
            return image
        converted = _apply(image, profile, kind)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        reason = str(error).replace(";", ",") or type(error).__name__
        conversions.append(f"colours taken as sRGB: {space.stated} is unusable, {reason}")
        return image
    conversions.append(f"{name} to sRGB by {space.stated}" if name else f"colours to sRGB by {space.stated}")
    return converted


def _apply(image: Image.Image, profile: bytes, kind: str) -> Image.Image:
    """Return the picture through the profile's transform, with its alpha channel."""
    if (kind == "GRAY") == (image.mode in ("RGB", "RGBA")):
        raise ValueError(f"a profile of {kind} in a picture of {image.mode}")
    if image.mode in ("LA", "RGBA"):
        channels = image.split()
        plain = Image.merge(image.mode[:-1], channels[:-1])
        converted = _apply(plain, profile, kind)
        return Image.merge(image.mode, (*converted.split(), channels[-1]))
    transform = _transform(profile, image.mode)
    return image if transform is None else transform.apply(image)


def _grey_as_rgb(image: Image.Image) -> Image.Image:
    """Return a grey picture as RGB, 8 bits per channel."""
    if image.mode == "I;16":
        return Image.fromarray(np.round(np.asarray(image) / 257.0).astype(np.uint8)).convert("RGB")
    return image.convert("RGBA" if image.mode == "LA" else "RGB")


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion of `mode` (L, I;16 or RGB) to sRGB; None where it changes no value by more than 1 of 255."""
    space = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("sRGB") if mode == "RGB" else io.BytesIO(grey_profile(srgb_curve))
    if mode == "I;16" and _transform(profile, "L") is None:
        return None
    found = ImageCms.buildTransform(
        space,
        target if mode == "RGB" else ImageCms.ImageCmsProfile(target),
        mode,
        mode,
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        # littleCMS would sample the curve of 16 bits at 4096 places, which are too few for dark values of a linear one
        ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if mode == "I;16" else 0),
    )
    probe = _probe(mode)
    if mode != "I;16":
        after = np.asarray(found.apply(Image.fromarray(probe)), np.int16)
        if np.abs(after - probe).max() <= 1:
            return None
    return found


def _probe(mode: str) -> np.ndarray:
    """Return colours evenly spread over the whole space, uint8: all 256 greys, or 17³ of RGB."""
    if mode != "RGB":
        return np.arange(256, dtype=np.uint8).reshape(16, 16)
    steps = np.linspace(0, 255, 17).round().astype(np.uint8)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(17, -1, 3)


def _describe(profile: bytes) -> tuple[str, str]:
    """Return the name of a profile, for the record, and the kind of its colours: RGB, GRAY, CMYK, …

    Raises `OSError` for one that cannot be read, and `ValueError` for one that is of no picture.
    """
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    kind = str(opened.xcolor_space).strip()
    if kind not in ("RGB", "GRAY"):
        raise ValueError(f"a profile of {kind}")
    text = " ".join(str(opened.profile_description or "").replace(";", ",").split())
    return "".join(letter for letter in text if letter.isprintable())[:NAME_LENGTH], kind


def _numbers(primaries: int, transfer: int, full_range: bool) -> ColourSpace | None:
    """Return the space of H.273's numbers; None where they state none, or sRGB."""
    primaries = 1 if primaries == UNSPECIFIED else primaries
    curve = CURVES.get(transfer)
    stated = f"its numbers {primaries}/{transfer}"
    if curve is srgb_curve and primaries == 1 and full_range:
        return None

    def profile(grey: bool) -> bytes:
        if curve is None or primaries not in PRIMARIES:
            raise ValueError("not among those that are known")
        ranged = curve if full_range else lambda values: curve(np.clip((values * 255 - 16) / 219, 0.0, 1.0))
        return grey_profile(ranged) if grey else rgb_profile(*PRIMARIES[primaries], ranged)

    return ColourSpace(stated, profile)


def _nclx(content: bytes) -> tuple[int, int, bool]:
    """Return primaries and transfer of a HEIC or AVIF file; 2, unspecified, where it states none. Decoders expand its range."""
    place = content.find(b"colrnclx", 0, 2**16) if content[4:8] == b"ftyp" else -1
    if place < 0 or len(content) < place + 12:
        return UNSPECIFIED, UNSPECIFIED, True
    return (*struct.unpack_from(">HH", content, place + 8), True)


def _gamma_and_primaries(gamma: bytes | None, primaries: bytes | None) -> ColourSpace | None:
    """Return the space of a PNG's gAMA and cHRM; None where it has neither, or where they stand for sRGB."""
    exponent = struct.unpack(">I", gamma)[0] / 100_000 if gamma is not None and len(gamma) == 4 else None
    numbers = struct.unpack(">8I", primaries) if primaries is not None and len(primaries) == 32 else None
    corners = [(x / 100_000, y / 100_000) for x, y in zip(numbers[::2], numbers[1::2], strict=True)] if numbers else []
    usual = not corners or np.allclose(corners, [D65, *SRGB_PRIMARIES], rtol=0.0, atol=CHROMATICITY_NEAR)
    near = exponent is None or abs(exponent * 2.2 - 1.0) < NEAR
    if usual and near:
        return None

    def profile(grey: bool) -> bytes:
        if exponent is not None and not 0.05 <= exponent <= 5.0:
            raise ValueError(f"a gamma of {exponent:g}")
        curve = srgb_curve if exponent is None or (grey and near) else partial(_power, 1.0 / exponent)
        white, *rest = corners or [D65, *SRGB_PRIMARIES]
        return grey_profile(curve) if grey else rgb_profile(tuple(rest), white, curve)

    names = ["gAMA"] * (exponent is not None) + ["cHRM"] * bool(corners)
    return ColourSpace(f"its {' and '.join(names)}", profile)
