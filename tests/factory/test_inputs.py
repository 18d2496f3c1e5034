"""What a run does with its input files, from the options to run.json."""

import json

import numpy as np
import pytest
from PIL import Image
from relatent import OptimizationConfig, optimize_directory, resume_directory
from relatent.cli.main import main
from relatent.engine.errors import UsageError
from relatent.engine.inputs.decoding.icc import D65, rgb_profile, srgb_curve
from relatent.factory.state.run_folder import RunFolder

QUICK = OptimizationConfig(iterations=1)
P3 = rgb_profile(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), D65, srgb_curve)


@pytest.fixture
def wide(tmp_path):
    """A folder with two pictures in Display P3."""
    folder = tmp_path / "wide"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (32, 32), (200, 120, 60)).save(folder / f"{name}.png", icc_profile=P3)
    return folder


def originals(out):
    return [record.images["original"][0, 0].astype(int) for part in RunFolder.open(out).records() for record in part]


def test_colours_of_a_run(wide, tmp_path, vae_folder, capsys):
    command = ["optimize", str(wide), "OUT", "--vae", str(vae_folder), "--size", "32", "--iterations", "1", "--json"]
    for name, options, right in (("srgb", [], (213, 115, 42)), ("stored", ["--colour", "as-is"], (200, 120, 60))):
        command[2] = str(tmp_path / name)
        assert main([*command, *options]) == 0
        run = json.loads(capsys.readouterr().out)
        assert run["settings"]["colour"] == ("as-is" if options else "srgb")
        assert all(np.abs(found - right).max() <= 1 for found in originals(tmp_path / name))
    assert main([*command]) == 2
    assert "colour was 'as-is', now 'srgb'" in capsys.readouterr().err
    assert main([*command, "--colour", "cmyk"]) == 2
    assert "colour: expected one of srgb, as-is, found 'cmyk'" in capsys.readouterr().err


def test_a_run_begun_before_there_was_colour_goes_on_with_colours_as_stored(wide, tmp_path, vae_folder):
    out = tmp_path / "out"
    options = dict(config=QUICK, size=32, shard_size=1, device="cpu")
    (wide / "b.png").rename(tmp_path / "b.png")
    (wide / "b.png").write_text("no picture yet")
    optimize_directory(wide, out, vae_folder, colour="as-is", **options)
    record = json.loads((out / "run.json").read_text())
    del record["settings"]["colour"]
    (out / "run.json").write_text(json.dumps(record))
    (tmp_path / "b.png").replace(wide / "b.png")
    assert resume_directory(out, retry_failed=True)["counts"] == {"total": 2, "done": 2, "failed": 0}
    assert [found.tolist() for found in originals(out)] == [[200, 120, 60]] * 2
    assert optimize_directory(wide, out, vae_folder, **options)["status"] == "done"  # the same command as then
    assert main(["verify", str(out)]) == 0


def test_verify_reads_as_the_run_did(wide, tmp_path, vae_folder, capsys):
    """Without stored pictures they are read again; else the decoded PSNR would differ by decibels."""
    for colour in ("srgb", "as-is"):
        out = tmp_path / colour
        optimize_directory(
            wide, out, vae_folder, config=QUICK, size=32, device="cpu", keep_images=False, colour=colour
        )  # fmt: skip
        assert main(["verify", str(out), "--json"]) == 0
        sample = json.loads(capsys.readouterr().out)["sample"]
        assert (sample["decoded"], sample["not_decoded"]) == (2, None)
        assert sample["largest_difference_db"] < 0.05


def test_an_unknown_way_to_treat_colours_is_refused(wide, tmp_path, small_vae):
    with pytest.raises(UsageError, match="colour: expected one of srgb, as-is"):
        optimize_directory(wide, tmp_path / "out", small_vae, colour="p3")


def test_what_is_passed_over_is_in_summary_record_and_report(wide, tmp_path, vae_folder, capsys):
    for name in ("c.nef", "sub/d.NEF", "notes.txt"):
        (wide / name).parent.mkdir(exist_ok=True)
        (wide / name).write_bytes(b"")
    (wide / "sub" / "back").symlink_to(wide)
    out = wide / "out"
    command = ["optimize", str(wide), str(out), "--vae", str(vae_folder), "--size", "32", "--iterations", "1"]
    assert main([*command, "--format", "hdf5", "--format", "png"]) == 0
    printed = capsys.readouterr().out
    raw = "skipped: 2 (.nef, a camera's raw format is not read; develop it, for example to TIFF): c.nef …"
    assert [line for line in printed.splitlines() if line.startswith("skipped")] == [
        raw,
        "skipped: 1 (linked folders, lead to a folder that is read under another path): sub/back",
        "skipped: 1 (other files, no picture)",
    ]
    run = json.loads((out / "run.json").read_text())
    assert [(one["count"], one["kind"], one["first"]) for one in run["skipped"]] == [
        (2, ".nef", "c.nef"),
        (1, "linked folders", "sub/back"),
        (1, "other files", "notes.txt"),
    ]
    assert main(["info", str(out)]) == 0
    assert raw in capsys.readouterr().out
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "Passed over in the input" in page
    assert "sub/back" in page
    # a second run, beside the first, does not take the first one's pictures
    second = [*command[:2], str(wide / "second"), *command[3:], "--json"]
    capsys.readouterr()
    assert main(second) == 0
    run = json.loads(capsys.readouterr().out)
    assert run["counts"]["total"] == 2
    assert [one["first"] for one in run["skipped"] if one["kind"] == "folders of relatent"] == ["out"]


def test_a_picture_whose_name_is_an_ending_alone_is_counted(wide, tmp_path, vae_folder):
    for name in (".png", "....png", "..PNG", ".heic2", ".nef", ".DS_Store", "png"):
        (wide / name).write_bytes((wide / "a.png").read_bytes())
    run = optimize_directory(wide, tmp_path / "out", vae_folder, size=32, config=QUICK, device="cpu")
    assert run["counts"]["done"] == 2
    assert [(one["count"], one["kind"], one["first"]) for one in run["skipped"]] == [
        (3, ".png", "....png"),
        (1, ".nef", ".nef"),
        (1, "other files", "png"),
    ]
    assert "put a name before it" in run["skipped"][0]["reason"]


def test_a_run_without_anything_passed_over_says_nothing_of_it(wide, tmp_path, vae_folder, capsys):
    command = [
        "optimize",
        str(wide),
        str(tmp_path / "out"),
        "--vae",
        str(vae_folder),
        "--size",
        "32",
        "--iterations",
        "1",
    ]
    assert main(command) == 0
    assert "skipped" not in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "run.json").read_text())["skipped"] == []
    assert main(["report", str(tmp_path / "out")]) == 0
    assert "Passed over" not in (tmp_path / "out" / "report.html").read_text()
