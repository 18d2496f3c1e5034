"""Sound pictures whose metadata, shape or packing other readers stumble over; and what is no regular file."""

import os
import socket
import subprocess
import sys
import zlib

import numpy as np
import pytest
from helpers import picture
from picture_files import insert_chunks
from PIL import Image, PngImagePlugin
from relatent.engine.errors import ImageError
from relatent.engine.inputs.decoding.files import decode
from relatent.engine.inputs.fitting import covering_size, fit_to
from relatent.engine.inputs.images import load_image
from relatent.engine.inputs.prefetch import Reader
from relatent.engine.inputs.sources import Source
from relatent.engine.records import Failure

LEFT_OUT = "metadata left out that cannot be read"


def load(path, **options):
    return load_image(path, 32, "none", **options)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "after", "many"])
def test_png_with_long_texts(tmp_path, kind):
    """As programs write their whole workflow into the picture: over Pillow's limits of 1 MB, and 64 MB in all."""
    text = "prompt " * 300_000
    info = PngImagePlugin.PngInfo()
    if kind == "many":
        for number in range(40):
            info.add_text(f"part {number}", text)
    elif kind == "after":
        info.add(b"zTXt", b"workflow\0\0" + zlib.compress(text.encode()), after_idat=True)
    else:
        (info.add_itxt if kind == "iTXt" else info.add_text)("workflow", text, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png", pnginfo=info, exif=exif)
    with pytest.raises(ValueError, match="MAX_TEXT"), Image.open(tmp_path / "a.png") as image:
        image.load()
    image = load(tmp_path / "a.png")
    assert np.array_equal(image.pixels, picture(32, 32)[::-1, ::-1])  # the orientation is kept
    assert image.conversions == (LEFT_OUT, "EXIF orientation 3 applied")


def test_a_long_text_that_pillow_takes_changes_nothing(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "node " * 500_000)  # 2.5 MB, not compressed
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png", pnginfo=info)
    image = load(tmp_path / "a.png")
    assert np.array_equal(image.pixels, picture(32, 32))
    assert image.conversions == ()


@pytest.mark.parametrize(
    "chunk",
    [
        {"zTXt": b"key\0\7nonsense"},  # an unknown compression
        {"pHYs": b"\0"},
        {"gAMA": b"\0"},
        {"sRGB": b""},
        {"iCCP": b"name\0\1nonsense"},
        {"acTL": b"\0"},
    ],
)
def test_damaged_metadata_never_cost_the_picture(tmp_path, chunk):
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    insert_chunks(tmp_path / "a.png", **chunk)
    assert np.array_equal(load(tmp_path / "a.png").pixels, picture(32, 32))


def test_a_wrong_checksum_of_a_text_never_costs_the_picture(tmp_path):
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    insert_chunks(tmp_path / "a.png", tEXt=b"Comment\0hello")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content.replace(b"hello", b"hallo"))
    image = load(tmp_path / "a.png")
    assert np.array_equal(image.pixels, picture(32, 32))
    assert LEFT_OUT in image.conversions


def test_damaged_pixels_are_still_found(tmp_path):
    Image.fromarray(picture(200, 200)).save(tmp_path / "a.png")
    insert_chunks(tmp_path / "a.png", zTXt=b"key\0\7nonsense")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"no image that Pillow knows|truncated"):
        load(tmp_path / "a.png")


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_never_costs_the_picture(tmp_path, exif):
    for name in ("a.jpg", "a.png", "a.webp"):
        Image.fromarray(np.full((32, 32, 3), 77, np.uint8)).save(tmp_path / name, exif=exif, quality=100)
        assert np.abs(load(tmp_path / name).pixels.astype(int) - 77).max() <= 1


def test_the_first_frame_of_mpo(tmp_path):
    frames = [Image.fromarray(np.full((32, 32, 3), 60 * i, np.uint8)) for i in (1, 2)]
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:], quality=100)
    image = load(tmp_path / "a.mpo")
    assert np.abs(image.pixels.astype(int) - 60).max() <= 1
    assert image.conversions == ("first of 2 frames",)


@pytest.mark.parametrize("kind", ["heic", "jxl"])
def test_kinds_of_optional_packages(tmp_path, kind):
    package = {"heic": "pillow_heif", "jxl": "pillow_jxl"}[kind]
    pytest.importorskip(package)
    if kind == "heic":
        import pillow_heif

        pillow_heif.from_pillow(Image.fromarray(np.full((64, 64, 3), 77, np.uint8))).save(tmp_path / "a.heic")
    else:
        import pillow_jxl  # noqa: F401  it registers itself

        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(picture(32, 32)).save(tmp_path / "a.jxl", lossless=True, exif=exif.tobytes())
    (tmp_path / f"a.{kind}").rename(tmp_path / "a.jpg")  # known by what it holds
    code = (
        "from pathlib import Path; from relatent.engine.inputs.decoding.files import decode; import numpy; "
        f"decoded = decode(Path({str(tmp_path / 'a.jpg')!r})); "
        "print(decoded.conversions, numpy.asarray(decoded.image).mean()); "
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)  # where nothing is registered
    assert done.returncode == 0, done.stderr
    conversions, mean = done.stdout.rsplit(maxsplit=1)
    assert conversions == "[]"  # JPEG XL is upright by itself
    assert float(mean) == pytest.approx(77 if kind == "heic" else picture(32, 32).mean(), abs=1.0)
    hidden = (
        f"import sys; sys.modules[{package!r}] = None; import importlib.util as u; f = u.find_spec; "
        f"u.find_spec = lambda name, *rest: None if name == {package!r} else f(name, *rest); "
    )
    done = subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True)
    assert f'needs pip install "relatent[{"heif" if kind == "heic" else "jxl"}]"' in done.stderr.splitlines()[-1]


def test_a_strip_is_cropped_before_it_is_scaled(tmp_path):
    """1,000,000×9 to 512×512: scaled as a whole it would take 87 GB. The middle of it is what is wanted."""
    strip = np.zeros((9, 1_000_000, 3), np.uint8)
    strip[:, 499_900:500_100] = picture(9, 200)
    Image.fromarray(strip).save(tmp_path / "strip.png")
    code = (
        "import resource; from relatent.engine.inputs.decoding.files import decode; "
        "from relatent.engine.inputs.fitting import fit_to; from pathlib import Path; "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        f"strip = decode(Path({str(tmp_path / 'strip.png')!r})).image; "
        "image = fit_to(strip, (512, 512), 'crop', 'white', []); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before); "
        f"import numpy; numpy.save({str(tmp_path / 'found.npy')!r}, numpy.asarray(image))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300 * 1024  # KiB
    near = Image.fromarray(strip[:, 499_000:501_000])
    expected = np.asarray(fit_to(near, (512, 512), "crop", "white", []))
    # the cut-out's middle differs by up to half a pixel of the target
    assert np.abs(np.load(tmp_path / "found.npy").astype(int) - expected).max() <= 4


@pytest.mark.parametrize("shape", [(9, 500), (500, 9), (16, 100), (20, 333)])
def test_both_ways_to_crop_give_the_same_pixels(shape):
    image = Image.fromarray(picture(*shape))
    covering = covering_size(image.size, (48, 32))
    assert covering[0] * covering[1] > 4 * 48 * 32
    left, top = (round((whole - side) / 2.0) for whole, side in zip(covering, (48, 32), strict=True))
    whole = image.resize(covering, Image.Resampling.BILINEAR).crop((left, top, left + 48, top + 32))
    found = np.asarray(fit_to(image, (48, 32), "crop", "white", []), int)
    assert np.abs(found - np.asarray(whole, int)).max() <= 1


def test_padding_a_strip_says_that_nothing_is_left(tmp_path):
    Image.fromarray(np.zeros((9, 100_000, 3), np.uint8)).save(tmp_path / "strip.png")
    with pytest.raises(ImageError, match=r"too narrow: of 100000×9 pixels nothing is left in 512×512; use --fit crop"):
        load_image(tmp_path / "strip.png", 512, "pad")


def test_out_of_memory_has_a_reason(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")
    code = (
        "import resource; from relatent.engine.inputs.prefetch import Reader; "
        "from relatent.engine.inputs.sources import Source; import PIL.PngImagePlugin; "
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize(); "
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, -1)); "
        f"print(Reader(32).read(Source({str(tmp_path / 'large.png')!r}, 'large.png', 'large', 'all')).reason)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().startswith("too large for the memory of this machine"), done.stderr


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        for name, kind in (("pipe.png", "a named pipe"), ("socket.png", "a socket")):
            failed = Reader(32).read(Source(str(tmp_path / name), name, name, "all"))
            assert isinstance(failed, Failure)
            assert failed.reason == f"unreadable: {kind}, expected a regular file"
    with pytest.raises(ImageError, match="unreadable: a device"):
        decode(tmp_path.__class__("/dev/zero"))


def test_more_bits_of_heic_are_recorded(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    values = np.full((64, 64, 3), 51400, np.uint16)
    pillow_heif.from_bytes("RGB;16", (64, 64), values.tobytes()).save(tmp_path / "a.heic", quality=-1)
    image = load_image(tmp_path / "a.heic", 64)
    assert np.abs(image.pixels.astype(int) - 200).max() <= 2
    assert image.conversions == ("10-bit RGB to 8-bit",)
