"""JPEG, JPEG 2000 and WebP as Pillow writes them, at several qualities, each at its best that any decoder reads."""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, features

from ....engine.errors import UsageError
from ....engine.losses.metrics import psnr


@dataclass(frozen=True)
class ClassicFile:
    """A picture in one of these formats, and what it cost."""

    bytes: int
    bpp: float  # bits of the whole file per pixel
    psnr: float  # dB, of the decoded 8-bit picture, all channels together
    encode_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class ClassicCodec:
    """One format with its settings."""

    name: str
    file_format: str  # Pillow's name
    feature: str  # Pillow's name for the library that it needs
    qualities: tuple[
        int, ...
    ]  # JPEG, WebP: quality, 0 to 100; JPEG 2000: how many times smaller than 24 bits per pixel
    settings: Mapping[str, Any] = field(default_factory=dict)  # Pillow's, the same at every quality

    def options(self, quality: int) -> dict[str, Any]:
        """Return what Pillow is given at a quality."""
        own = {"quality_layers": [quality]} if self.file_format == "JPEG2000" else {"quality": quality}
        return {**own, **self.settings}

    def measure(self, image: torch.Tensor, quality: int) -> ClassicFile:
        """Encode and decode `image`, (3, H, W) uint8, in memory. Raises UsageError where Pillow lacks the format."""
        if not features.check(self.feature):
            raise UsageError(f"{self.name}: this Pillow was built without it; install a Pillow with {self.feature}")
        pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        start = time.perf_counter()
        file = io.BytesIO()
        pixels.save(file, self.file_format, **self.options(quality))
        encoded = time.perf_counter()
        decoded = np.array(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))
        done = time.perf_counter()
        found = torch.from_numpy(decoded).permute(2, 0, 1)
        return ClassicFile(
            bytes=len(file.getvalue()),
            bpp=8 * len(file.getvalue()) / (pixels.width * pixels.height),
            psnr=float(psnr(found[None], image[None], value_range=(0.0, 255.0))),
            encode_seconds=encoded - start,
            decode_seconds=done - encoded,
        )


CLASSICS = (
    # Its Huffman tables fitted to the picture, which Pillow does not do by default: a third fewer bits at quality 5, 6 % at 30.
    # 4:2:0 as in the published curve.
    ClassicCodec(
        "JPEG", "JPEG", "jpg", (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90), {"optimize": True, "subsampling": "4:2:0"}
    ),
    # The lossy wavelet 9/7, and the transform to luminance and chrominance: without it, Pillow's default, it is 2 to 5 dB worse.
    ClassicCodec(
        "JPEG 2000",
        "JPEG2000",
        "jpg_2000",
        (12, 16, 24, 32, 48, 64, 96, 160, 240),
        {"quality_mode": "rates", "irreversible": True, "mct": 1},
    ),
    ClassicCodec("WebP", "WEBP", "webp", (0, 10, 20, 35, 50, 65, 80, 90), {"method": 6}),  # its slowest, smallest
)
