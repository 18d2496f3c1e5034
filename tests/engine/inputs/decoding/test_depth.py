"""Bit depths and transparency: full range kept, and the conversion recorded."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from picture_files import insert_chunks, png16, tiff
from PIL import Image
from relatent.engine.errors import ImageError
from relatent.engine.inputs.decoding.icc import grey_profile
from relatent.engine.inputs.images import load_image

RAMP = np.linspace(0, 65535, 1024).round().astype(np.uint16).reshape(32, 32)


def load(path, **options):
    return load_image(path, 32, "none", **options)


def test_12_bits_are_scaled_by_the_files_own_depth(tmp_path):
    values = (RAMP >> 4).astype(np.uint16)
    image = load(tiff(tmp_path / "a.tif", values, 12))
    assert np.array_equal(image.pixels[..., 0], np.round(values * (255 / 4095)))
    assert (image.pixels.min(), image.pixels.max()) == (0, 255)
    assert image.conversions == ("12-bit grey to 8-bit RGB, full range kept",)
    linear = load(tiff(tmp_path / "a.tif", values, 12, profile=grey_profile(lambda light: light)))
    light = values / 4095
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert np.abs(linear.pixels[..., 0] - encoded).max() <= 1.5


def test_16_bits_with_white_as_zero(tmp_path):
    image = load(tiff(tmp_path / "a.tif", RAMP, 16, photometric=0))
    assert np.array_equal(image.pixels[..., 0], np.round((65535 - RAMP.astype(int)) / 257))


def test_transparency_of_16_bit_grey(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    insert_chunks(tmp_path / "a.png", tRNS=struct.pack(">H", int(RAMP[3, 4])))
    image = load(tmp_path / "a.png", background="#102030")
    assert image.pixels[3, 4].tolist() == [16, 32, 48]
    kept = np.arange(1024).reshape(32, 32) != 3 * 32 + 4
    assert np.array_equal(image.pixels[..., 1][kept], np.round(RAMP / 257.0)[kept])
    assert image.conversions[1] == "16-bit grey composited over #102030"


@pytest.mark.parametrize(("colour_type", "mode"), [(2, "RGB"), (4, "LA"), (6, "RGBA")])
def test_16_bits_of_colour_are_recorded(tmp_path, colour_type, mode):
    values = np.full((32, 32, len(mode)), (51400, 25700, 12850, 65535)[: len(mode)], np.uint16)
    if mode == "LA":
        values[..., 1] = 65535
    image = load(png16(tmp_path / "a.png", colour_type, values))
    assert image.pixels[5, 5].tolist() == ([200, 200, 200] if mode == "LA" else [200, 100, 50])
    assert image.conversions[0] == f"16-bit {mode} to 8-bit"


def test_16_bits_of_tiff_and_jpeg_2000_are_recorded(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((32, 32, 3), (51400, 25700, 12850), np.uint16), photometric="rgb")
    image = load(tmp_path / "a.tif")
    assert image.pixels[5, 5].tolist() == [200, 100, 50]
    assert image.conversions == ("16-bit RGB to 8-bit",)
    Image.fromarray(RAMP).save(tmp_path / "a.jp2")
    image = load(tmp_path / "a.jp2")
    assert np.array_equal(image.pixels[..., 0], np.round(RAMP / 257.0))
    assert image.conversions == ("16-bit grey to 8-bit RGB, full range kept",)


@pytest.mark.parametrize(
    ("most", "conversions"), [(65535, ("16-bit RGB to 8-bit",)), (1023, ("10-bit RGB to 8-bit",)), (255, ())]
)
def test_more_bits_of_ppm_are_recorded(tmp_path, most, conversions):
    values = np.round(np.full((32, 32, 3), (200, 100, 50)) / 255 * most).astype(">u2" if most > 255 else np.uint8)
    (tmp_path / "a.ppm").write_bytes(b"P6 # made here\n32 32\n%d\n" % most + values.tobytes())
    image = load(tmp_path / "a.ppm")
    assert np.abs(image.pixels[5, 5].astype(int) - (200, 100, 50)).max() == 0
    assert image.conversions == conversions


def test_a_transparent_colour_of_16_bits_and_of_a_few(tmp_path):
    values = np.full((32, 32, 3), 51400, np.uint16)
    values[0, 0] = (65535, 0, 0)
    png16(tmp_path / "a.png", 2, values)
    insert_chunks(tmp_path / "a.png", tRNS=struct.pack(">3H", 65535, 0, 0))
    image = load(tmp_path / "a.png", background="black")
    assert image.pixels[0, 0].tolist() == [0, 0, 0]
    assert image.pixels[0, 1].tolist() == [200, 200, 200]
    grey = Image.fromarray((np.arange(1024).reshape(32, 32) % 4).astype(np.uint8) * 85)
    palette = grey.quantize(4)
    palette.save(tmp_path / "few.png", bits=2)
    content = bytearray((tmp_path / "few.png").read_bytes())
    content[25] = 0  # of the same 2 bits: grey instead of a palette
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "few.png").write_bytes(content)
    before = load(tmp_path / "few.png").pixels[..., 0]
    assert set(np.unique(before)) == {0, 85, 170, 255}
    insert_chunks(tmp_path / "few.png", tRNS=struct.pack(">H", 2))
    after = load(tmp_path / "few.png", background="black").pixels[..., 0]
    assert np.array_equal(after, np.where(before == 170, 0, before))


def test_float_pictures_that_are_not_finite(tmp_path):
    for value in (np.nan, np.inf, -0.5):
        Image.fromarray(np.full((32, 32), value, np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(ImageError, match=r"outside \[0, 1\]"):
            load(tmp_path / "a.tif")


def test_pillow_still_reads_16_bit_colour_by_its_high_bytes(tmp_path):
    """If this fails, Pillow has learnt more, and the conversion is to be made anew."""
    values = np.full((8, 8, 3), 0x12FF, np.uint16)
    with Image.open(png16(tmp_path / "a.png", 2, values)) as image:
        assert (image.mode, image.getpixel((0, 0))) == ("RGB", (0x12, 0x12, 0x12))
