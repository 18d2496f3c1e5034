"""codec compress, decompress, refine, evaluate and train, from their options to the files they write."""

import re
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import relatent_process, strict
from PIL import Image
from relatent.cli.codec import EXAMPLES
from relatent.cli.main import build_parser, main
from relatent.systems.codec import bundled, picture_files
from relatent.systems.codec.bitstream.image_codec import padded
from relatent.systems.codec.bitstream.model_folder import load_model, save_model
from relatent.systems.codec.measures import measure
from relatent.systems.codec.model.quantisers import hard_round
from synthetic_pictures import picture_of
from tiny_codec import trained

DOCS = Path(__file__).resolve().parents[2] / "docs"
SIZES = [(1, 1), (7, 500), (511, 513)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model's folder."""
    folder = tmp_path_factory.mktemp("codec") / "model"
    save_model(trained(), folder, 0.013, half=True)
    return folder


@pytest.fixture(scope="module")
def other_model(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec") / "other"
    changed = load_model(model).model
    with torch.no_grad():
        changed.synthesis[0].bias[0] += 0.5
    save_model(changed, folder, 0.05)
    return folder


@pytest.fixture
def bundle(model, other_model, tmp_path, monkeypatch):
    """Both models bundled, as the qualities 1 and 2."""
    folder = tmp_path / "weights"
    shutil.copytree(other_model, folder / "1")
    shutil.copytree(model, folder / "2")
    monkeypatch.setattr(bundled, "FOLDER", folder)


def save(path, height, width, seed=5):
    image = picture_of(height, width, seed)
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path)
    return image


def pixels(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def run(*words):
    return main(["codec", *map(str, words)])


def result(capsys, *words):
    """What a command prints as JSON."""
    assert run(*words, "--json") == 0
    return strict(capsys.readouterr().out)


@pytest.fixture
def compressed(model, tmp_path, capsys):
    """A compressed picture of 40×70 pixels."""
    save(tmp_path / "a.png", 40, 70)
    assert run("compress", tmp_path / "a.png", tmp_path / "a.rlc", "--model", model) == 0
    capsys.readouterr()
    return tmp_path / "a.rlc"


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_another_process_decompresses_what_was_compressed(model, tmp_path, capsys, height, width):
    image = save(tmp_path / "a.png", height, width)
    file, back = tmp_path / "a.rlc", tmp_path / "back.png"
    printed = result(capsys, "compress", tmp_path / "a.png", file, "--model", model)
    codec = load_model(model)
    encoded = codec.encode(image)
    assert file.read_bytes() == encoded.data
    expected = measure(image, encoded, codec.lmbda)
    assert {name: printed[name] for name in vars(expected)} == vars(expected)
    assert printed["bytes"] == file.stat().st_size
    assert printed["bpp"] == file.stat().st_size * 8 / (height * width)
    assert (printed["width"], printed["height"], printed["quality"]) == (width, height, None)
    assert printed["model"] == codec.sha256.hex()
    with torch.inference_mode():
        estimate = float(codec.model(padded(image), hard_round).bits) / 8
    assert abs(printed["bytes"] - estimate) <= 0.01 * estimate + 32

    done = relatent_process("codec", "decompress", file, back, "--model", model, "--json")
    assert done.returncode == 0, done.stderr
    assert torch.equal(pixels(back), encoded.reconstruction)
    found = strict(done.stdout)
    assert (found["width"], found["height"], found["bytes"], found["bpp"]) == (
        width, height, printed["bytes"], printed["bpp"],
    )  # fmt: skip


def test_the_model_is_found_by_the_file(bundle, tmp_path, capsys):
    save(tmp_path / "a.png", 40, 70)
    for quality, options in ((1, ["--quality", "1"]), (2, []), (2, ["--quality", "2"])):
        file, back = tmp_path / f"{quality}{len(options)}.rlc", tmp_path / f"{quality}{len(options)}.png"
        printed = result(capsys, "compress", tmp_path / "a.png", file, *options)
        assert printed["quality"] == quality
        found = result(capsys, "decompress", file, back)
        assert (found["quality"], found["model"]) == (quality, printed["model"])
        assert torch.equal(pixels(back), bundled.load_codec(quality).decompress(file.read_bytes()))
    assert run("decompress", tmp_path / "12.rlc", tmp_path / "b.png", "--quality", 2) == 2
    assert "12.rlc: the file was written by the model " in capsys.readouterr().err
    assert run("compress", tmp_path / "a.png", file, "--quality", 0) == 2
    assert capsys.readouterr().err == "relatent: quality: expected one of 1, 2, found 0\n"


def test_text_states_what_the_json_does(model, tmp_path, capsys):
    save(tmp_path / "a.png", 64, 64)
    file, back = tmp_path / "a.rlc", tmp_path / "a.bmp"
    printed = result(capsys, "compress", tmp_path / "a.png", file, "--model", model)
    assert run("compress", tmp_path / "a.png", file, "--model", model) == 0  # the older file is replaced
    line = capsys.readouterr().out
    figures = (
        f"{file}: {printed['bytes']} bytes, {printed['bpp']:.3f} bits per pixel, {printed['psnr']:.2f} dB, "
        f"rate-distortion cost {printed['rd_cost']:.4f}, 64×64 pixels, "
    )
    assert line.startswith(figures)
    assert line.count("\n") == 1
    assert run("decompress", file, back, "--model", model) == 0
    assert capsys.readouterr().out.startswith(f"{back}: 64×64 pixels from {printed['bytes']} bytes, ")


def test_pictures_are_read_as_everywhere(model, tmp_path, capsys):
    """Upright, transparency over white, in 8 bits, with what was done recorded."""
    upright = picture_of(30, 50, 3).permute(1, 2, 0).contiguous().numpy()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90° to be seen upright
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(upright).save(tmp_path / "upright.png")
    transparent = np.dstack([upright, np.full((30, 50), 0, np.uint8)])
    Image.fromarray(transparent).save(tmp_path / "transparent.png")
    Image.fromarray(np.full((30, 50, 3), 255, np.uint8)).save(tmp_path / "white.png")
    printed = {}
    for name in ("turned", "upright", "transparent", "white"):
        printed[name] = result(capsys, "compress", tmp_path / f"{name}.png", tmp_path / name, "--model", model)
    assert (tmp_path / "turned").read_bytes() == (tmp_path / "upright").read_bytes()
    assert printed["turned"]["conversions"] == ["EXIF orientation 6 applied"]
    assert (tmp_path / "transparent").read_bytes() == (tmp_path / "white").read_bytes()
    assert printed["transparent"]["conversions"] == ["RGBA composited over white"]
    assert printed["white"]["conversions"] == []


@pytest.mark.parametrize("suffix", [".png", ".BMP", ".ppm", ".tif", ".tiff"])
def test_every_format_keeps_every_pixel(model, compressed, tmp_path, suffix):
    assert run("decompress", compressed, tmp_path / f"back{suffix}", "--model", model) == 0
    assert torch.equal(pixels(tmp_path / f"back{suffix}"), load_model(model).decompress(compressed.read_bytes()))


def with_checksum(data):
    return data[:4] + zlib.crc32(data[:4] + data[8:]).to_bytes(4, "little") + data[8:]


DAMAGE = {
    "empty": (lambda data: b"", "does not begin with RLC"),
    "foreign": (lambda data: b"\x89PNG" + data, "does not begin with RLC"),
    "version": (lambda data: with_checksum(data[:3] + b"\x02" + data[4:]), "is of version 2"),
    "header": (lambda data: data[:12], "the file is truncated"),
    "truncated": (lambda data: data[:-5], "its checksum differs"),
    "flipped": (lambda data: data[:-5] + bytes([data[-5] ^ 16]) + data[-4:], "its checksum differs"),
    "model": (lambda data: with_checksum(data[:8] + bytes(8) + data[16:]), f"written by the model {'0' * 16}"),
    "size": (lambda data: with_checksum(data[:16] + b"\x80\x80\x01\x80\x80\x01\0\0\0"), "16384×16384 pixels"),
    "large": (lambda data: with_checksum(data[:16] + b"\x80\x40\x80\x40\0\0\0"), "give --max-pixels 67108864"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("given", ["--model", "bundled"])
def test_a_file_that_is_no_good_gets_one_line(bundle, model, compressed, tmp_path, capsys, damage, given):
    change, words = DAMAGE[damage]
    compressed.write_bytes(change(compressed.read_bytes()))
    options = ["--model", model] if given == "--model" else []
    assert run("decompress", compressed, tmp_path / "back.png", *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"relatent: {compressed}: ")
    assert words in err
    assert err.count("\n") == 1
    if damage == "model" and given == "bundled":
        assert "give its folder with --model" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.rlc", "weights"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("compress absent.png b.rlc", "absent.png: damaged or unreadable: "),
        ("compress . b.rlc", ".: unreadable: a folder"),
        ("compress a.rlc b.rlc", "a.rlc: no image that Pillow knows"),
        ("compress a.png a.png", "a.png is there already and no file of this codec"),
        ("compress a.png .", ". is there already and no file of this codec"),
        ("decompress absent.rlc b.png", "absent.rlc cannot be read: No such file or directory"),
        ("decompress . b.png", ". is a folder, expected a file"),
        ("decompress a.rlc a.png", "a.png is there already: choose another name, or --force"),
        ("decompress a.rlc b.jpg", "b.jpg: expected a name that ends in .png, .bmp, .ppm, .tif, .tiff"),
        ("decompress a.rlc b", "b: expected a name that ends in .png"),
        ("decompress a.rlc b.png --max-pixels 8191", "a picture of 70×40 pixels, 8192 when padded; at most 8191"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(model, compressed, tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert run(*words.split(), "--model", model) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("relatent: ")
    assert expected in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_picture_that_is_there_is_replaced_by_force_alone(model, compressed, tmp_path, capsys):
    back = tmp_path / "back.png"
    back.write_bytes(b"something")
    assert run("decompress", compressed, back, "--model", model) == 2
    assert back.read_bytes() == b"something"
    assert run("decompress", compressed, back, "--model", model, "--force") == 0
    assert pixels(back).shape == (3, 40, 70)
    back.unlink()
    back.mkdir()
    assert run("decompress", compressed, back, "--model", model, "--force") == 2
    assert "back.png is there already" in capsys.readouterr().err


def test_a_file_larger_than_any_is_not_read(model, compressed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(picture_files, "_MORE_BYTES", 100)
    monkeypatch.setattr(picture_files, "_BYTES_PER_PIXEL", 0)
    compressed.write_bytes(compressed.read_bytes() + bytes(100))
    assert run("decompress", compressed, tmp_path / "back.png", "--model", model) == 2
    assert "larger than any compressed picture" in capsys.readouterr().err


def test_the_commands_say_what_they_lack(model, compressed, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert run("decompress", compressed, tmp_path / "back.png", "--model", model) == 2
    assert capsys.readouterr().err == "relatent: the codec needs constriction: pip install 'relatent[codec]'\n"
    monkeypatch.undo()
    assert run("decompress", compressed, tmp_path / "back.png", "--model", tmp_path) == 2
    assert "config.json cannot be read" in capsys.readouterr().err
    monkeypatch.setattr(type(load_model(model)), "decompress", lambda *_: torch.empty(1 << 60))
    assert run("decompress", compressed, tmp_path / "back.png", "--model", model) == 2
    assert "the picture is too large for the memory of this machine" in capsys.readouterr().err


def test_refinement_states_the_cost_before_and_after(model, tmp_path, capsys):
    image = save(tmp_path / "a.png", 40, 70)
    codec = load_model(model)
    plain = vars(measure(image, codec.encode(image), codec.lmbda))
    words = ["refine", tmp_path / "a.png", tmp_path / "a.rlc", "--model", model, "--steps", 4, "--quantiser", "ste"]
    printed = result(capsys, *words)
    assert printed["before"] == plain
    assert printed["rd_cost"] <= plain["rd_cost"]
    assert printed["bytes"] == (tmp_path / "a.rlc").stat().st_size
    assert printed["kept"] in ("refined", "initial")
    assert (printed["refinement"]["steps"], printed["refinement"]["quantiser"]) == (4, "ste")
    decoded = codec.decompress((tmp_path / "a.rlc").read_bytes())
    assert printed["psnr"] == pytest.approx(
        float(10 * torch.log10(255**2 / (image.double() - decoded.double()).square().mean()))
    )
    assert run(*words, "--seed", 1) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'a.rlc'}: {printed['bytes']} bytes")
    assert second.startswith(f"not refined: {plain['bytes']} bytes")
    by_compress = result(capsys, "compress", tmp_path / "a.png", tmp_path / "b.rlc", "--model", model, "--refine", 3)
    assert (by_compress["refinement"]["steps"], by_compress["before"]) == (3, plain)
    assert run("refine", tmp_path / "a.png", tmp_path / "a.rlc", "--model", model, "--quantiser", "none") == 2
    assert "quantiser: expected one of " in capsys.readouterr().err


def test_evaluate_writes_a_table(model, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(2):
        save(folder / f"{seed}.png", 64, 80, seed)
    words = ["evaluate", folder, "--model", model, "--out", tmp_path / "figures", "--limit", 1]
    printed = result(capsys, *words)
    assert printed == strict((tmp_path / "figures" / "evaluation.json").read_text())
    assert run(*words) == 0
    assert (tmp_path / "figures" / "table.md").read_text() in capsys.readouterr().out


def test_train_makes_a_model_that_compresses(tmp_path, capsys):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", 64, 64, seed)
    printed = result(
        capsys, "train", "--train_dataset", tmp_path, "--save_path", tmp_path / "out", "--epochs", 1, "--batch-size", 2,
        "--patch-size", 64, "--device", "cpu",
    )  # fmt: skip
    assert printed["steps"] == 1
    assert run("compress", tmp_path / "0.png", tmp_path / "0.rlc", "--model", printed["model"]) == 0


def commands_of_the_page(path=DOCS / "codec.md"):
    blocks = re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("#")[0] for line in "".join(blocks).splitlines()]
    return [line.split()[2:] for line in lines if line.removeprefix(".venv/bin/").startswith("relatent codec ")]


def test_the_commands_of_the_help_and_of_the_page_exist():
    examples = [line.split("  ")[1].split()[2:] for line in EXAMPLES.splitlines() if line.startswith("  relatent ")]
    assert len(examples) == 5
    assert len(commands_of_the_page()) >= 6
    for words in (*examples, *commands_of_the_page()):
        assert build_parser().parse_args(["codec", *words]).run


@pytest.mark.parametrize("page", [DOCS / "codec.md", DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_the_commands_of_the_pages_run(bundle, page, tmp_path, monkeypatch):
    """In their order."""
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    save("photo.jpg", 40, 70)
    save("photos/a.png", 64, 80)
    for words in commands_of_the_page(page):
        assert run(*words) == 0
    assert pixels("photo.png").shape == (3, 40, 70)


def test_the_commands_of_the_page_on_training_run(tmp_path, monkeypatch):
    """In their order, for one or two steps each."""
    monkeypatch.chdir(tmp_path)
    for path in ("photos/a.png", "kodak/b.png"):
        Path(path).parent.mkdir()
        save(path, 64, 64)
    save("photo.jpg", 40, 70)
    for words in commands_of_the_page(DOCS / "codec_training.md"):
        epochs = 2 if "--checkpoint" in words else 1
        short = ["--epochs", epochs, "--batch-size", 1, "--patch-size", 64] if words[0] in ("train", "ablation") else []
        assert run(*words, *short) == 0
    assert Path("photo.rlc").exists()
    assert Path("ablation/ablation.json").exists()


def test_the_help_shows_how_to_compress_a_photograph():
    page = relatent_process("codec", "--help").stdout
    assert "relatent codec compress photo.jpg photo.rlc" in page
    assert "relatent codec decompress photo.rlc photo.png" in page
    for command in ("compress", "decompress", "refine", "evaluate", "train", "ablation"):
        assert f"    {command}" in page
        assert relatent_process("codec", command, "--help").returncode == 0
    assert 'pip install "relatent[codec]"' in page
    assert relatent_process("codec").returncode == 2
