"""Real files of every kind, good and bad."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import bad_files, picture
from PIL import Image, ImageCms
from relatent.engine.errors import ImageError, UsageError
from relatent.engine.inputs.images import check_fit, load_image


def load(path, size=32, fit="crop", **options):
    return load_image(path, size, fit, **options)


def test_eight_bit_rgb_is_untouched_and_follows_vae_toolkits_convention(tmp_path):
    from vae_toolkit import pil_to_tensor

    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    image = load(tmp_path / "a.png", fit="none")
    assert image.conversions == ()
    assert np.array_equal(image.pixels, picture(32, 32))
    expected = pil_to_tensor(Image.fromarray(picture(32, 32))).unsqueeze(0)
    torch.testing.assert_close(image.tensor(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_full_range(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    image = load(tmp_path / f"a.{suffix}")
    assert np.array_equal(image.pixels[..., 0], (ramp / 257.0).round().astype(np.uint8))
    assert np.array_equal(image.pixels[..., 0], image.pixels[..., 2])
    assert "16-bit" in image.conversions[0]


def test_float_grey(tmp_path):
    ramp = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    assert load(tmp_path / "a.tif").pixels[-1, -1].tolist() == [255] * 3
    Image.fromarray(ramp * 3).save(tmp_path / "b.tif")
    with pytest.raises(ImageError, match=r"outside \[0, 1\]"):
        load(tmp_path / "b.tif")
    Image.fromarray((ramp * 100_000).astype(np.int32)).save(tmp_path / "c.tif")
    with pytest.raises(ImageError, match="16 bits"):
        load(tmp_path / "c.tif")


def test_grey_palette_and_bilevel(tmp_path):
    grey = Image.fromarray(picture(32, 32)[..., 0])
    grey.save(tmp_path / "l.png")
    assert np.array_equal(load(tmp_path / "l.png").pixels[..., 1], np.asarray(grey))
    palette = Image.fromarray(picture(32, 32)).quantize(16)
    palette.save(tmp_path / "p.png")
    assert np.array_equal(load(tmp_path / "p.png").pixels, np.asarray(palette.convert("RGB")))
    grey.convert("1").save(tmp_path / "b.png")
    assert set(np.unique(load(tmp_path / "b.png").pixels)) <= {0, 255}


@pytest.mark.parametrize(("background", "expected"), [("white", [255, 255, 255]), ("#102030", [16, 32, 48])])
def test_alpha_is_composited_over_the_stated_colour(tmp_path, background, expected):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 0] = 200  # a hidden red under full transparency
    pixels[16:, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = load(tmp_path / "a.png", background=background)
    assert image.pixels[0, 0].tolist() == expected
    assert image.pixels[31, 0].tolist() == [200, 0, 0]
    assert background in image.conversions[0]


def test_transparency_of_palette_and_rgb_files(tmp_path):
    rgb = Image.fromarray(np.full((32, 32, 3), (10, 20, 30), np.uint8))
    rgb.save(tmp_path / "rgb.png", transparency=(10, 20, 30))
    assert load(tmp_path / "rgb.png").pixels[0, 0].tolist() == [255, 255, 255]
    rgb.quantize(4).save(tmp_path / "p.png", transparency=0)
    assert load(tmp_path / "p.png").pixels[0, 0].tolist() == [255, 255, 255]


def test_cmyk_and_lab(tmp_path):
    cmyk = Image.fromarray(picture(32, 32)).convert("CMYK")
    cmyk.save(tmp_path / "a.jpg", quality=98)
    image = load(tmp_path / "a.jpg")
    assert np.abs(image.pixels.astype(int) - picture(32, 32).astype(int)).mean() < 8
    assert "without a profile" in image.conversions[0]
    lab = ImageCms.profileToProfile(
        Image.fromarray(picture(32, 32)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    lab.save(tmp_path / "a.tif")
    assert np.abs(load(tmp_path / "a.tif").pixels.astype(int) - picture(32, 32).astype(int)).mean() < 4


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    image = Image.fromarray(picture(24, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    loaded = load(tmp_path / "a.png")
    assert loaded.original_size == ((24, 40) if orientation < 5 else (40, 24))
    assert f"EXIF orientation {orientation}" in loaded.conversions[0]
    if orientation == 3:
        upright = Image.fromarray(picture(24, 40)[::-1, ::-1].copy())
        upright.save(tmp_path / "b.png")
        assert np.array_equal(loaded.pixels, load(tmp_path / "b.png").pixels)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(picture(32, 32, seed)).quantize(32) for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load(tmp_path / "a.gif").conversions[0] == "first of 3 frames"


def test_fits(tmp_path):
    Image.fromarray(picture(48, 64)).save(tmp_path / "a.png")
    crop, pad = load(tmp_path / "a.png"), load(tmp_path / "a.png", fit="pad", background="black")
    assert crop.pixels.shape == pad.pixels.shape == (32, 32, 3)
    assert crop.original_size == (48, 64)
    assert not pad.pixels[:4].any()
    assert "64×48 cropped to 32×32" in crop.conversions[0]
    with pytest.raises(ImageError, match="expected 32×32 pixels, found 64×48"):
        load(tmp_path / "a.png", fit="none")


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (33, 50), (40, 40), (20, 31)])
def test_crop_is_vae_toolkits_processor(tmp_path, shape):
    from vae_toolkit import ImageProcessor

    Image.fromarray(picture(*shape)).save(tmp_path / "a.png")
    expected = ImageProcessor(32).preprocess_pil(Image.open(tmp_path / "a.png"))
    torch.testing.assert_close(load(tmp_path / "a.png").tensor(), expected, atol=1e-6, rtol=0)


def test_bad_fit_and_background():
    with pytest.raises(UsageError, match="crop, pad, none"):
        check_fit("stretch", "white")
    with pytest.raises(UsageError, match="no colour"):
        check_fit("crop", "whitish")


def test_bad_files_name_their_fault(tmp_path):
    for name, words in bad_files(tmp_path).items():
        with pytest.raises(ImageError, match=words):
            load(tmp_path / name)


def test_importing_pillow_settings_are_left_alone():
    """Loading pictures changes neither Pillow's pixel limit nor its tolerance of truncated files."""
    code = (
        "from PIL import Image, ImageFile; a = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES; "
        "import relatent.engine.inputs.images; assert a == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_size_a_picture_keeps_its_own(tmp_path):
    pixels = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png", None, cell=1)
    assert np.array_equal(loaded.pixels, pixels)
    assert (loaded.original_size, loaded.conversions) == ((5, 3), ())
    with pytest.raises(ImageError, match="too small"):
        load_image(tmp_path / "a.png", None)
