"""JPEG, JPEG 2000 and WebP by Pillow."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, features
from relatent.engine.errors import UsageError
from relatent.systems.codec.evaluation.classic import CLASSICS
from synthetic_pictures import picture_of

BY_NAME = {codec.name: codec for codec in CLASSICS}


@pytest.fixture(scope="module")
def image():
    return picture_of(150, 101, 3)


def encoded(image: torch.Tensor, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize("codec", CLASSICS, ids=list(BY_NAME))
def test_figures_are_those_of_the_file(codec, image):
    quality = codec.qualities[len(codec.qualities) // 2]
    data = encoded(image, codec.file_format, **codec.options(quality))
    decoded = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)
    mse = ((decoded - image.permute(1, 2, 0).numpy()) ** 2).mean()
    found = codec.measure(image, quality)
    assert found.bytes == len(data)
    assert found.bpp == pytest.approx(8 * len(data) / (150 * 101))
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-4)
    assert found.encode_seconds > 0
    assert found.decode_seconds > 0


@pytest.mark.parametrize("codec", CLASSICS, ids=list(BY_NAME))
def test_qualities_make_a_curve(codec, image):
    points = sorted((found.bpp, found.psnr) for found in (codec.measure(image, q) for q in codec.qualities))
    assert [psnr for _, psnr in points] == sorted(psnr for _, psnr in points)
    assert points[-1][1] > points[0][1] + 3


def test_jpeg_is_smaller_than_by_default_and_its_chroma_halved(image):
    codec = BY_NAME["JPEG"]
    plain, ours = encoded(image, "JPEG", quality=30), encoded(image, "JPEG", **codec.options(30))
    pictures = [np.asarray(Image.open(io.BytesIO(data))) for data in (plain, ours)]
    assert np.array_equal(*pictures)  # Pillow's default is 4:2:0 too
    assert len(ours) < len(plain)


def test_jpeg_2000_codes_luminance_and_chrominance(image):
    codec = BY_NAME["JPEG 2000"]
    grey = image.float().mean(0, keepdim=True).to(torch.uint8).expand(3, -1, -1)  # what the transform helps most
    options = codec.options(24)
    bare = encoded(grey, "JPEG2000", **{**options, "mct": 0})
    decoded = torch.from_numpy(np.array(Image.open(io.BytesIO(bare)))).permute(2, 0, 1)
    psnr = float(10 * torch.log10(255**2 / (decoded.double() - grey.double()).square().mean()))
    assert codec.measure(grey, 24).psnr > psnr + 1


def test_a_pillow_without_the_format(image, monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: name != "jpg_2000")
    with pytest.raises(UsageError, match="JPEG 2000: this Pillow was built without it"):
        BY_NAME["JPEG 2000"].measure(image, 24)
