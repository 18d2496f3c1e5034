"""The target size of each picture: given, its own, or a trainer's."""

import os

import numpy as np
import pytest
from helpers import picture
from PIL import Image, PngImagePlugin
from relatent.engine.errors import UsageError
from relatent.engine.inputs.fitting import covering_size
from relatent.engine.inputs.images import load_image
from relatent.engine.inputs.prefetch import Reader
from relatent.engine.inputs.sizes import parse_size, simple_size, size_text
from relatent.engine.inputs.sizing import NativeSizing, assign_sizes, make_sizing, read_size
from relatent.engine.inputs.sources import Source


@pytest.mark.parametrize(
    ("text", "size"), [("512", 512), ("768x512", (768, 512)), ("768X512", (768, 512)), ("64×64", 64), ("8x16", (8, 16))]
)
def test_a_size_is_a_side_or_width_and_height(text, size):
    assert parse_size(text) == size
    assert parse_size(size_text(size)) == simple_size(size)


@pytest.mark.parametrize("text", ["", "x", "512x", "0", "512x512x512", "-8", "8.5", "big"])
def test_other_texts_are_no_sizes(text):
    with pytest.raises(UsageError, match="expected a number of pixels such as 512, or WxH"):
        parse_size(text)


@pytest.mark.parametrize("text", ["65537", "512x65537", "100000000000", "9" * 5000])
def test_a_size_that_no_picture_has_is_refused(text):
    assert parse_size("65536") == 65536
    with pytest.raises(UsageError, match="expected at most 65536 pixels a side"):
        parse_size(text)


@pytest.mark.parametrize(
    ("found", "size", "covering"),
    [
        ((481, 321), (256, 256), (383, 256)),  # a photograph of BSDS500, as torchvision resizes it
        ((321, 481), (256, 256), (256, 383)),
        ((100, 100), (768, 512), (768, 768)),
        ((300, 100), (768, 512), (1536, 512)),
        ((100, 300), (768, 512), (768, 2304)),
        ((768, 512), (384, 256), (384, 256)),
    ],
)
def test_a_picture_is_scaled_to_cover_its_target(found, size, covering):
    assert covering_size(found, size) == covering


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_rectangle_is_cropped_or_padded(tmp_path, fit):
    Image.fromarray(picture(96, 96)).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", (40, 64), fit)
    assert image.pixels.shape == (64, 40, 3)
    corner = image.pixels[0, 0]
    assert (corner == 255).all() == (fit == "pad")  # white above the square that fits inside


@pytest.mark.parametrize(
    ("found", "most", "size"),
    [
        ((481, 321), 2**22, (480, 320)),
        ((484, 324), 2**22, (480, 320)),  # 60.5 and 40.5 cells: halves to even
        ((3, 1000), 2**22, (8, 1000)),
        ((4000, 3000), 2**20, (1176, 888)),
        ((1_000_000, 9), 2**20, (131072, 8)),
    ],
)
def test_native_sizes_are_the_nearest_cells_within_the_limit(found, most, size):
    assert NativeSizing(8, most).target(found) == size
    assert size[0] * size[1] <= most


def test_the_header_gives_the_size_as_the_picture_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 24)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "b.png").write_text("nothing")
    assert read_size(str(tmp_path / "a.jpg")) == (24, 40)
    assert read_size(str(tmp_path / "b.png")) is None
    assert read_size(str(tmp_path)) is None


def test_sources_of_one_size_come_together_and_unreadable_ones_with_the_most(tmp_path):
    sizes = {"a": (40, 24), "b": (24, 40), "c": (40, 24), "d": (24, 40), "e": (24, 40)}
    for name, size in sizes.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    (tmp_path / "x.png").write_text("nothing")
    sources = [Source(str(tmp_path / f"{name}.png"), f"{name}.png", name, "all") for name in "axbcde"]
    found = assign_sizes(sources, NativeSizing(8))
    assert [(source.name, source.size) for source in found] == [
        ("a", (40, 24)),
        ("c", (40, 24)),
        ("x", (24, 40)),
        ("b", (24, 40)),
        ("d", (24, 40)),
        ("e", (24, 40)),
    ]
    with pytest.raises(UsageError, match="no picture of the input can be read"):
        assign_sizes(sources[1:2], NativeSizing(8))


@pytest.mark.parametrize(
    ("buckets", "native", "most", "words"),
    [
        ("sd-scripts:512", True, None, "exclude each other"),
        (None, False, 4096, "max_pixels limits the pictures of --native"),
        (None, True, 63, "expected at least 64, one latent cell"),
        ("somebody:512", False, None, "buckets: .*sd-scripts"),
    ],
)
def test_rules_that_cannot_be_are_refused(buckets, native, most, words):
    with pytest.raises(UsageError, match=words):
        make_sizing(buckets, native, most, 8)


def test_a_trainers_size_must_be_whole_cells():
    sizing = make_sizing("sd-scripts:512,step=16", False, None, 32)
    with pytest.raises(UsageError, match="no whole number of the autoencoder's latent cells of 32 pixels; add step=32"):
        [sizing.target((1000, side)) for side in range(400, 1000, 20)]


def test_sizes_of_every_picture_that_can_be_loaded(tmp_path):
    """A size that is not found would give the picture that of most others."""
    exif = Image.Exif()
    exif[0x0112] = 6
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "node " * 500_000, zip=True)  # over Pillow's limit
    Image.fromarray(picture(24, 40)).save(tmp_path / "text.png", pnginfo=info, exif=exif)
    Image.fromarray(picture(24, 40)).save(tmp_path / "exif.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    os.mkfifo(tmp_path / "pipe.png")
    assert read_size(str(tmp_path / "text.png")) == (24, 40)
    assert read_size(str(tmp_path / "exif.jpg")) == (40, 24)
    assert read_size(str(tmp_path / "pipe.png")) is None
    assert load_image(tmp_path / "text.png", (24, 40), "none").original_size == (40, 24)


def test_sizes_of_kinds_of_optional_packages(tmp_path):
    pillow_heif, _ = pytest.importorskip("pillow_heif"), pytest.importorskip("pillow_jxl")
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.from_pillow(Image.fromarray(picture(64, 96))).save(tmp_path / "a.heic", exif=exif.tobytes())
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.jxl", exif=exif.tobytes())
    upright = np.rot90(picture(64, 96), -1).astype(int)
    for name, size in (("a.heic", (64, 96)), ("a.jxl", (96, 64))):  # JPEG XL has its own orientation, not that of EXIF
        assert read_size(str(tmp_path / name)) == size
        pixels = load_image(tmp_path / name, size, "none").pixels.astype(int)
        assert np.abs(pixels - (upright if name == "a.heic" else picture(64, 96))).mean() < 8


@pytest.mark.parametrize(
    ("rule", "found", "scaled", "target"),
    [
        ("sd-scripts:64,step=8,min=32,max=128", (100, 70), (80, 56), (72, 56)),
        ("sd-scripts:64,step=8,min=32,max=128,no-upscale", (60, 45), (56, 42), (56, 40)),  # the trainer cuts 60x45
        ("simpletuner:0.01,type=area,step=8", (1000, 1003), (96, 96), (96, 96)),  # the trainer cuts 1000x1003
        ("simpletuner:64,type=pixel,step=8", (100, 510), (64, 320), (64, 320)),  # squeezed from 64x326
    ],
)
def test_no_more_is_cropped_than_by_the_trainer(tmp_path, rule, found, scaled, target):
    sizing = make_sizing(rule, False, None, 8)
    assert sizing.target(found) == target
    assert sizing.scaled(found, target) == scaled
    pixels = picture(found[1], found[0])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    source = Source(str(tmp_path / "a.png"), "a.png", "a", "all", size=target)
    image = Reader(None, sizing=sizing, cell=8).read(source)
    whole = Image.fromarray(pixels).resize(scaled, Image.Resampling.BILINEAR)
    left, top = (round((whole - side) / 2) for whole, side in zip(scaled, target, strict=True))
    assert np.array_equal(image.pixels, np.asarray(whole.crop((left, top, left + target[0], top + target[1]))))


SIZES = [(w, h) for w in (300, 481, 640, 1000, 1920) for h in (200, 321, 480, 999, 1080)]


@pytest.mark.parametrize(
    "rule", ["sd-scripts:512", "musubi:512", "ai-toolkit:512", "onetrainer:512", "simpletuner:512"]
)
def test_the_share_that_is_kept_is_the_trainers_at_least(rule):
    sizing = make_sizing(rule, False, None, 8)
    for found in SIZES:
        resized, target = sizing.rule.fit(found)
        if all(whole >= side for whole, side in zip(resized, target, strict=True)):
            scaled = sizing.scaled(found, target)
            assert scaled[0] * scaled[1] <= resized[0] * resized[1]
            assert all(whole >= side for whole, side in zip(scaled, target, strict=True))
