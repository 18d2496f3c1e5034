"""Colours of every space become those of sRGB: values worked out here from the standards' own numbers."""

import struct
import zlib

import numpy as np
import pytest
from helpers import picture
from PIL import Image, ImageCms, PngImagePlugin
from relatent.engine.inputs.decoding.icc import D65, grey_profile, rgb_profile, srgb_curve
from relatent.engine.inputs.images import load_image

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO, D50 = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585)
BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def power(gamma):
    return lambda values: values**gamma


def xyz(x, y):
    return np.array([x / y, 1, (1 - x - y) / y])


def encode(light):
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def expected(colour, primaries, white, curve):
    """sRGB of a colour, by matrices in floating point."""

    def matrix(corners, of_white):
        columns = np.array([xyz(*one) for one in corners]).T
        return columns * np.linalg.solve(columns, of_white)

    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ xyz(*D65)) / (BRADFORD @ xyz(*white))) @ BRADFORD
    light = curve(np.array(colour) / 255)
    return encode(np.linalg.solve(matrix(BT709, xyz(*D65)), adapt @ matrix(primaries, xyz(*white)) @ light))


SPACES = {
    "p3": (P3, D65, srgb_curve),
    "adobe": (ADOBE, D65, power(563 / 256)),
    "prophoto": (PROPHOTO, D50, power(1.8)),
}
INSIDE = [(200, 120, 60), (128, 128, 128), (90, 100, 110), (180, 160, 150)]  # of sRGB, in all three


def plain(colour, size=16):
    return Image.new("RGB", (size, size), tuple(colour))


def read(path, **options):
    image = load_image(path, 16, "none", **options)
    assert (image.pixels == image.pixels[0, 0]).all()
    return image.pixels[0, 0].astype(int), image.conversions


def chunks(path, **given):
    """Put chunks right behind a PNG's header."""
    content = path.read_bytes()
    made = b"".join(
        struct.pack(">I", len(data)) + name.encode() + data + struct.pack(">I", zlib.crc32(name.encode() + data))
        for name, data in given.items()
    )
    path.write_bytes(content[:33] + made + content[33:])


def cicp(primaries, transfer, full=1):
    return bytes([primaries, transfer, 0, full])


def gama(value):
    return struct.pack(">I", round(value * 100_000))


def chrm(primaries, white=D65):
    return struct.pack(">8I", *(round(value * 100_000) for corner in (white, *primaries) for value in corner))


def test_the_stated_values(tmp_path):
    plain((200, 120, 60)).save(tmp_path / "p3.png", icc_profile=rgb_profile(P3, D65, srgb_curve))
    found, conversions = read(tmp_path / "p3.png")
    assert np.abs(found - (213, 115, 42)).max() <= 1
    assert conversions == ("colours to sRGB by its embedded profile",)
    Image.new("L", (16, 16), 40).save(tmp_path / "grey.png", icc_profile=grey_profile(power(1.0)))
    found, conversions = read(tmp_path / "grey.png")
    assert np.abs(found - 110).max() <= 1
    assert conversions == ("L to RGB", "colours to sRGB by its embedded profile")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_profiles_are_applied(tmp_path, space, suffix):
    profile = rgb_profile(*SPACES[space])
    for colour in INSIDE:
        options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
        options |= {"lossless": True} if suffix == "webp" else {}
        plain(colour).save(tmp_path / f"a.{suffix}", icc_profile=profile, **options)
        found, conversions = read(tmp_path / f"a.{suffix}")
        tolerance = 4 if suffix == "jpg" else 1
        assert np.abs(found - expected(colour, *SPACES[space])).max() <= tolerance + 0.5
        assert conversions == ("colours to sRGB by its embedded profile",)
        stored, conversions = read(tmp_path / f"a.{suffix}", colour="as-is")
        assert np.abs(stored - colour).max() <= tolerance - 1
        assert conversions == ()


def test_a_jpeg_packed_into_jpeg_xl(tmp_path):
    """Its profile and its orientation are those of the JPEG."""
    pytest.importorskip("pillow_jxl")
    exif = Image.Exif()
    exif[0x0112] = 6
    image = plain((200, 120, 60))
    image.paste((60, 120, 200), (0, 0, 16, 8))  # above, which is then on the right
    image.save(tmp_path / "a.jpg", icc_profile=rgb_profile(P3, D65, srgb_curve), exif=exif, quality=100, subsampling=0)
    with Image.open(tmp_path / "a.jpg") as opened:
        opened.save(tmp_path / "a.jxl", lossless_jpeg=True)
    found = load_image(tmp_path / "a.jxl", 16)
    assert np.array_equal(found.pixels, load_image(tmp_path / "a.jpg", 16).pixels)
    assert np.abs(found.pixels[8, 2].astype(int) - (213, 115, 42)).max() <= 4
    assert found.conversions == ("EXIF orientation 6 applied", "colours to sRGB by its embedded profile")


def test_an_srgb_profile_leaves_every_pixel_as_it_is(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # by what it does, not by its name: the first has another, the second none
    for profile in (srgb, rgb_profile(BT709, D65, srgb_curve)):
        Image.fromarray(picture(16, 16)).save(tmp_path / "a.png", icc_profile=profile)
        image = load_image(tmp_path / "a.png", 16)
        assert np.array_equal(image.pixels, picture(16, 16))
        assert image.conversions == ()
    Image.fromarray(picture(16, 16)[..., 0]).save(tmp_path / "g.png", icc_profile=srgb)
    image = load_image(tmp_path / "g.png", 16)
    assert np.array_equal(image.pixels[..., 2], picture(16, 16)[..., 0])
    assert image.conversions == ("L to RGB",)


def test_the_name_of_a_profile_does_not_count(tmp_path):
    """A wide space that calls itself sRGB."""
    profile = bytearray(rgb_profile(P3, D65, srgb_curve))
    text = b"sRGB IEC61966-2.1; 1"
    tag = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(1 + 8 + 3 + 67)
    count = struct.unpack_from(">I", profile, 128)[0]
    table = bytearray()
    for i in range(count):
        name, start, length = struct.unpack_from(">4sII", profile, 132 + 12 * i)
        table += struct.pack(">4sII", name, start + 12, length)
    table += struct.pack(">4sII", b"desc", len(profile) + 12, len(tag))
    whole = profile[:128] + struct.pack(">I", count + 1) + table + profile[132 + 12 * count :] + tag
    struct.pack_into(">I", whole, 0, len(whole))
    plain((200, 120, 60)).save(tmp_path / "a.png", icc_profile=bytes(whole))
    found, conversions = read(tmp_path / "a.png")
    assert np.abs(found - (213, 115, 42)).max() <= 1
    assert conversions == ("sRGB IEC61966-2.1, 1 to sRGB by its embedded profile",)


@pytest.mark.parametrize(
    ("given", "by", "space"),
    [
        ({"cICP": cicp(12, 13)}, "its numbers 12/13", (P3, D65, srgb_curve)),
        ({"cICP": cicp(9, 8)}, "its numbers 9/8", (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65, power(1.0))),
        ({"gAMA": gama(1.0)}, "its gAMA", (BT709, D65, power(1.0))),
        ({"gAMA": gama(1 / 1.8)}, "its gAMA", (BT709, D65, power(1.8))),
        ({"gAMA": gama(1 / 2.2), "cHRM": chrm(ADOBE)}, "its gAMA and cHRM", (ADOBE, D65, power(2.2))),
        ({"cHRM": chrm(P3)}, "its cHRM", (P3, D65, srgb_curve)),
        ({"cICP": cicp(2, 2), "gAMA": gama(1.0)}, None, None),  # cICP goes first: unspecified is sRGB
        ({"cICP": cicp(1, 13), "gAMA": gama(1.0)}, None, None),
        ({"cICP": cicp(1, 1)}, None, None),
        ({"sRGB": b"\0", "gAMA": gama(1.0)}, None, None),
        ({"gAMA": gama(1 / 2.2)}, None, None),
        ({"gAMA": gama(0.45455), "cHRM": chrm(BT709)}, None, None),
    ],
)
def test_chunks_of_png(tmp_path, given, by, space):
    for colour in [(200, 120, 60), (60, 70, 80)] if space and space[2](0.5) == 0.5 else INSIDE:
        plain(colour).save(tmp_path / "a.png")
        chunks(tmp_path / "a.png", **given)
        found, conversions = read(tmp_path / "a.png")
        if by is None:
            assert (found.tolist(), conversions) == (list(colour), ())
        else:
            assert np.abs(found - expected(colour, *space)).max() <= 1.5
            assert conversions == (f"colours to sRGB by {by}",)
        assert read(tmp_path / "a.png", colour="as-is")[1] == ()


def test_cicp_goes_before_the_profile_and_that_before_gamma(tmp_path):
    plain((200, 120, 60)).save(tmp_path / "a.png", icc_profile=rgb_profile(P3, D65, srgb_curve))
    chunks(tmp_path / "a.png", gAMA=gama(1.0))
    assert np.abs(read(tmp_path / "a.png")[0] - (213, 115, 42)).max() <= 1
    chunks(tmp_path / "a.png", cICP=cicp(1, 13))
    assert read(tmp_path / "a.png") == (pytest.approx([200, 120, 60]), ())


def test_narrow_range_and_high_dynamic_range(tmp_path):
    plain((235, 126, 16)).save(tmp_path / "a.png")
    chunks(tmp_path / "a.png", cICP=cicp(1, 13, full=0))
    found, _ = read(tmp_path / "a.png")
    assert np.abs(found - (255, 128, 0)).max() <= 1
    # BT.2408's reference white: 58 % of PQ, 75 % of HLG
    for transfer, white in ((16, 0.5807), (18, 0.75)):
        plain([round(255 * white)] * 3).save(tmp_path / "a.png")
        chunks(tmp_path / "a.png", cICP=cicp(9, transfer))
        found, conversions = read(tmp_path / "a.png")
        assert np.abs(found - 255).max() <= 3
        assert conversions == (f"colours to sRGB by its numbers 9/{transfer}",)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "PA", "1"])
def test_other_modes_keep_their_transparency(tmp_path, mode):
    profile = grey_profile(power(1.0)) if mode[0] == "L" else rgb_profile(P3, D65, srgb_curve)
    colour = (40, 40, 40) if mode[0] == "L" else (200, 120, 60)
    image = plain(colour).convert("RGBA")
    image.putpixel((3, 3), (*colour, 0))
    alpha = mode in ("LA", "RGBA", "PA")
    if mode[0] == "P":
        image = (image if alpha else image.convert("RGB")).quantize(4)
    else:
        image = image.convert("RGB").convert(mode) if not alpha else image.convert(mode)
    image.save(tmp_path / "a.png", icc_profile=profile)
    found = load_image(tmp_path / "a.png", 16, "none").pixels.astype(int)
    right = {"L": (110, 110, 110), "1": (255, 255, 255)}.get(mode[0], (213, 115, 42))
    if mode == "1":
        assert set(np.unique(found)) <= {0, 255}  # black and white are those of any space
    else:
        assert np.abs(found[0, 0] - right).max() <= 1
        assert (found[3, 3].tolist() == [255, 255, 255]) == alpha


def test_grey_stays_grey_at_16_bits(tmp_path):
    ramp = np.linspace(0, 65535, 1024).round().astype(np.uint16).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "a.png", icc_profile=grey_profile(power(1.0)))
    image = load_image(tmp_path / "a.png", 32)
    assert np.abs(image.pixels[..., 0] - encode(ramp / 65535)).max() <= 1.5
    assert np.array_equal(image.pixels[..., 0], image.pixels[..., 1])
    assert image.conversions == ("16-bit grey to 8-bit RGB, full range kept", "colours to sRGB by its embedded profile")
    as_is = load_image(tmp_path / "a.png", 32, colour="as-is")
    assert np.array_equal(as_is.pixels[..., 0], (ramp / 257.0).round().astype(np.uint8))


def test_a_profile_of_rgb_in_a_grey_picture_is_applied(tmp_path):
    """Its greys are those of the curve: of a gamma of 1.8 here."""
    Image.new("L", (16, 16), 100).save(tmp_path / "a.tif", icc_profile=rgb_profile(BT709, D65, power(1.8)))
    found, _ = read(tmp_path / "a.tif")
    assert np.abs(found - encode((100 / 255) ** 1.8)).max() <= 1.5


WHOLE = rgb_profile(P3, D65, srgb_curve)
CMYK_HEADER = bytearray(WHOLE)
CMYK_HEADER[16:20] = b"CMYK"


@pytest.mark.parametrize(
    "profile", [b"no profile at all", WHOLE[:200], bytes(300), grey_profile(power(1.0)), bytes(CMYK_HEADER)]
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_broken_profile_never_costs_the_picture(tmp_path, profile, suffix):
    pixels = np.full((16, 16, 3), 100, np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", icc_profile=profile, quality=100)
    found, conversions = read(tmp_path / f"a.{suffix}")
    assert found.tolist() == [100, 100, 100]
    (line,) = conversions
    assert line.startswith("colours taken as sRGB: its embedded profile is unusable, ")
    assert len(line) > 60


def test_a_broken_profile_of_cmyk(tmp_path):
    Image.new("CMYK", (16, 16), (0, 0, 0, 0)).save(tmp_path / "a.jpg", icc_profile=b"nothing", quality=100)
    found, conversions = read(tmp_path / "a.jpg")
    assert found.tolist() == [255, 255, 255]
    assert conversions[0].startswith("CMYK to RGB without its profile, which is unusable: ")


@pytest.mark.parametrize("given", [{"gAMA": gama(0)}, {"cHRM": struct.pack(">8I", *[0] * 8)}, {"cICP": cicp(77, 13)}])
def test_nonsense_in_chunks_never_costs_the_picture(tmp_path, given):
    plain((200, 120, 60)).save(tmp_path / "a.png")
    chunks(tmp_path / "a.png", **given)
    found, conversions = read(tmp_path / "a.png")
    assert found.tolist() == [200, 120, 60]
    assert "taken as sRGB" in conversions[0]


@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_numbers_of_heic_and_avif(tmp_path, suffix):
    """A P3 picture as phones write it, without a profile."""
    if suffix == "heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        image = pillow_heif.from_pillow(plain((200, 120, 60), 64))
        image.save(tmp_path / "a.heic", quality=-1, chroma=444, matrix_coefficients=0, color_primaries=12,
                   transfer_characteristics=13, full_range_flag=1)  # fmt: skip
    else:
        plain((200, 120, 60), 64).save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
        content = bytearray((tmp_path / "a.avif").read_bytes())
        place = content.find(b"colrnclx")
        assert place > 0
        struct.pack_into(">HH", content, place + 8, 12, 13)
        (tmp_path / "a.avif").write_bytes(content)
    image = load_image(tmp_path / f"a.{suffix}", 64)
    assert np.abs(image.pixels[32, 32].astype(int) - (213, 115, 42)).max() <= 3
    assert image.conversions == ("colours to sRGB by its numbers 12/13",)


def test_a_mask_is_taken_as_it_is_stored(tmp_path):
    from relatent.engine.inputs.images import load_grey

    Image.new("L", (16, 16), 40).save(tmp_path / "a.png", icc_profile=grey_profile(power(1.0)))
    assert (load_grey(tmp_path / "a.png", (16, 16), 16, "none") == 40).all()


def test_a_long_profile_is_still_one_of_png(tmp_path):
    """Over Pillow's limit of 1 MB."""
    profile = WHOLE + np.random.default_rng(0).integers(0, 256, 2**21, np.uint8).tobytes()
    profile = struct.pack(">I", len(profile)) + profile[4:]
    plain((200, 120, 60)).save(tmp_path / "a.png", icc_profile=profile)
    with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"):
        Image.open(tmp_path / "a.png").load()
    found, conversions = read(tmp_path / "a.png")
    assert np.abs(found - (213, 115, 42)).max() <= 1
    assert "colours to sRGB by its embedded profile" in conversions
    assert PngImagePlugin.MAX_TEXT_CHUNK == 2**20  # Pillow's own limit is as it was
