"""Output that never fails for an encoding: not that of the terminal, and not that of a file's name."""

import json
import os
import sys

import pytest
from command_line import relatent_process, strict
from helpers import picture
from PIL import Image
from relatent.cli.main import main

ENCODINGS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "c": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


@pytest.fixture(scope="module")
def out(tmp_path_factory, vae_folder):
    """A run whose pictures have names of many alphabets, one of them no UTF-8; one of them cannot be read."""
    folder = tmp_path_factory.mktemp("names")
    names = [os.fsencode(name) for name in ("naïve 写真 🐈.png", "σ.png")] + [b"caf\xe9.png"]
    for name in names:
        Image.fromarray(picture()).save(os.path.join(folder, os.fsdecode(name)))
    (folder / "bad σ.png").write_text("no picture")
    place = folder / "out σ"
    done = relatent_process(
        "optimize", folder, place, "--vae", vae_folder, "--size", "32", "--iterations", "1", "--device", "cpu",
        env=os.environ | ENCODINGS["ascii"],
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "failed in load: bad \\u03c3.png" in done.stdout
    return place


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_summaries_and_json_in_every_encoding(out, encoding):
    options = {"env": os.environ | ENCODINGS[encoding], "encoding": "cp1252" if encoding == "cp1252" else "ascii"}
    done = relatent_process("info", out, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 of 4 pictures" in done.stdout
    done = relatent_process("info", out, "--json", **options)
    assert done.returncode == 0, done.stderr
    assert strict(done.stdout) == strict((out / "run.json").read_text(encoding="utf-8"))
    done = relatent_process("info", out.parent / "σ", **options)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("relatent: ")


def test_utf_8_shows_what_it_can(out):
    done = relatent_process("info", out, env=os.environ | {"PYTHONIOENCODING": "utf-8"}, encoding="utf-8")
    assert "bad σ.png" in done.stdout
    assert "写真" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere take no names that are no Unicode")
def test_paths_that_are_no_utf_8(tmp_path, vae_folder, capsys):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    Image.fromarray(picture()).save(folder / "a.png")
    (folder / os.fsdecode(b"b\xe9.png")).write_text("no picture")
    out = folder / "out"
    command = ["optimize", folder, out, "--vae", vae_folder, "--size", "32", "--iterations", "1", "--json"]
    assert main([str(word) for word in command]) == 1
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert strict(capsys.readouterr().out) == run
    assert run["settings"]["input"] == str(folder)
    for name in ("info", "verify", "report", "resume"):
        assert main([name, str(out)]) == (1 if name == "resume" else 0)
    assert "b\\xe9.png" in (out / "report.html").read_text(encoding="utf-8")
