"""Exports that are folders: whose they are, what replaces what, checksums, names, classes."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import relatent
from helpers import picture, small_kl
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.exporters.base.exporter import FORMATS, exporter_class, make_exporter
from relatent.exporters.base.folder import FolderExporter
from relatent.exporters.base.labels import class_name
from relatent.exporters.base.names import is_verbatim, safe_part, source_folder, source_stem
from relatent.factory.export import export_run
from relatent.factory.state.run_folder import RunFolder

FOLDERS = [name for name in FORMATS if issubclass(exporter_class(name), FolderExporter)]
FILES = [name for name in FORMATS if name not in FOLDERS]
WIDE = ("musubi",)  # formats of trainers without a model for 4 channels: their run has 16
# in one folder, as far as Linux allows: unicode, spaces, dashes, dots, a line break, the longest name, one stem twice
ODD_NAMES = (
    "naïve 写真.png",
    "-dash.png",
    ".hidden.png",
    " spaced .png",
    "a.b.c.png",
    "line\nbreak.png",
    "back\\slash.png",
    "x" * 251 + ".png",
    "写" * 83 + ".png",
    "twice.png",
    "twice.bmp",
    "SHA256SUMS.png",
    "relatent.json/in a folder.png",
    "README.md/..twice.png",
    "SHA256SUMS/-/deep.png",
)


def make(root, vae, names, **options):
    for seed, name in enumerate(names):
        path = root / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed=seed)).save(path)
    config = relatent.OptimizationConfig(iterations=1)
    relatent.optimize_directory(root / "in", root / "out", vae, config=config, size=32, flip=True, **options)
    return RunFolder.open(root / "out")


@pytest.fixture(scope="module")
def wide_vae():
    """With the channels and the scaling of FLUX.1's."""
    model = small_kl(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159)
    return relatent.load_autoencoder(model, device="cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_vae, wide_vae):
    names = ("train/cat/1.png", "train/dog/2.png", "val/dog/3.png")
    return {
        wide: make(tmp_path_factory.mktemp("owned"), wide_vae if wide else small_vae, names) for wide in (False, True)
    }


@pytest.fixture(scope="module")
def odd_runs(tmp_path_factory, small_vae, wide_vae):
    return {
        wide: make(tmp_path_factory.mktemp("odd"), wide_vae if wide else small_vae, ODD_NAMES, batch_size=8)
        for wide in (False, True)
    }


def is_wide(request):
    return "name" in request.fixturenames and request.getfixturevalue("name") in WIDE


@pytest.fixture
def run(request, runs):
    return runs[is_wide(request)]


@pytest.fixture
def odd(request, odd_runs):
    return odd_runs[is_wide(request)]


@pytest.fixture
def records(run):
    return records_of(run)


def records_of(run):
    return [record for batch in run.records() for record in batch]


def state(folder):
    """Every file with its contents, folders and links with what they are."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else path.is_symlink()
        for path in folder.rglob("*")
    }


def verify(folder):
    """By the tool people use; the checksums cover all files, and nothing else is there."""
    result = subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    names = [line.partition("  ")[2] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert len(names) == len(set(names))
    assert set(names) | {"SHA256SUMS"} == files


@pytest.mark.parametrize("name", FOLDERS)
def test_checksums_cover_every_file(run, tmp_path, name):
    folder = export_run(run, name, tmp_path / name)
    verify(folder)
    assert {"relatent.json", "README.md", "sources.jsonl"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "relatent.json").read_text())["counts"]["total"] == 3
    victim = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    result = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert result.returncode == 1


@pytest.mark.parametrize("name", FOLDERS)
def test_an_export_names_what_it_was_made_from(run, records, tmp_path, name):
    """Each picture's file with its checksum, so that a picture edited since is seen."""
    folder = export_run(run, name, tmp_path / name)
    lines = [json.loads(line) for line in (folder / "sources.jsonl").read_text().splitlines()]
    assert json.loads((folder / "relatent.json").read_text())["sources"] == "sources.jsonl"
    assert [line["name"] for line in lines] == [record.name for record in records]
    source = run.out.parent / "in"
    for line, record in zip(lines, records, strict=True):
        assert (line["source_path"], line["split"]) == (record.source_path, record.split)
        assert line["source_sha256"] == hashlib.sha256((source / line["source_path"]).read_bytes()).hexdigest()
        assert "file" not in line or (folder / line["file"]).is_file()
    assert ("file" in lines[0]) == (name in ("ai-toolkit", "comfyui", "kohya", "musubi", "simpletuner"))


# not: HDF5, whose files state times, and safetensors, whose library orders a header's metadata by chance
@pytest.mark.parametrize("name", ["fast-dit", "kohya", "mar", "mds", "png", "repa", "webdataset"])
def test_an_export_repeats_to_the_byte(run, tmp_path, name):
    one, two = export_run(run, name, tmp_path / "one"), export_run(run, name, tmp_path / "two")
    assert state(one) == state(two)


def strange(kind, place):
    """Something at `place` that is not ours."""
    if kind == "file":
        place.write_text("mine")
    elif kind == "link":
        place.with_name("elsewhere").mkdir()
        place.symlink_to("elsewhere")
    else:
        place.mkdir()
        (place / "thesis.tex").write_text("years of work")
        if kind == "folder with another relatent.json":
            (place / "relatent.json").write_text('{"schema": "something/else"}')


@pytest.mark.parametrize("kind", ["folder", "folder with another relatent.json", "file", "link"])
@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_not_ours_is_refused_before_anything_is_written(run, tmp_path, name, kind):
    strange(kind, tmp_path / "place")
    before = state(tmp_path)
    with pytest.raises(UsageError, match="choose another DEST") as error:
        export_run(run, name, tmp_path / "place")
    assert "\n" not in str(error.value)
    assert state(tmp_path) == before


def test_another_run_is_no_export(run, tmp_path):
    other = shutil.copytree(run.out, tmp_path / "other")
    before = state(other)
    for place in (next(other.glob("shards/*.h5")), other / "shards" / "more.h5", other / "report.html"):
        for name in FILES:
            with pytest.raises(UsageError, match="choose another DEST"):
                export_run(run, name, place)
    assert state(other) == before


def test_an_export_in_another_format_stays(run, tmp_path):
    export_run(run, "webdataset", tmp_path / "place")
    before = state(tmp_path)
    with pytest.raises(UsageError, match=r"holds an export as webdataset.*choose another DEST"):
        export_run(run, "safetensors", tmp_path / "place")
    assert state(tmp_path) == before
    export_run(run, "webdataset", tmp_path / "place")


def test_a_run_is_no_export(run):
    before = state(run.out)
    for place in (run.out, run.out.parent, run.out / "shards"):
        with pytest.raises(UsageError, match="choose another DEST"):
            export_run(run, "kohya", place)
    for place in (run.out / "run.json", run.out / "ledger.jsonl", next(run.out.glob("shards/*.h5"))):
        for name in FILES:
            with pytest.raises(UsageError, match="choose another DEST"):
                export_run(run, name, place)
    assert state(run.out) == before


def test_an_export_with_something_of_yours_in_it_is_refused(run, tmp_path):
    place = export_run(run, "hf", tmp_path / "place")
    for name, text in (("notes.txt", "mine"), ("data/model.pt", "mine"), ("README.md", "a licence, filled in")):
        old = (place / name).read_bytes() if (place / name).exists() else None
        (place / name).write_text(text)
        with pytest.raises(UsageError, match=name):
            export_run(run, "hf", place)
        assert (place / name).read_text() == text
        (place / name).unlink()
        if old is not None:
            (place / name).write_bytes(old)
    (place / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="link"):
        export_run(run, "hf", place)
    (place / "link").unlink()
    (place / "SHA256SUMS").rename(place / "sums")
    with pytest.raises(UsageError, match="SHA256SUMS"):
        export_run(run, "hf", place)


@pytest.mark.parametrize("name", FOLDERS)
def test_an_export_of_ours_and_an_empty_folder_are_replaced(run, records, tmp_path, name):
    place = tmp_path / "place"
    place.mkdir()
    export_run(run, name, place)
    os.utime(place / "README.md")  # touched, not changed
    (place / "stale").mkdir()  # so that what is there afterwards is seen to be new
    export_run(run, name, place)
    assert not (place / "stale").exists()
    verify(place)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_failed_export_leaves_the_old_one_and_no_litter(run, records, tmp_path, name):
    place = export_run(run, name, tmp_path / "place")
    before = state(tmp_path)
    torn = dataclasses.replace(records[2], optimized_latents=None, images={"original": records[2].images["original"]})
    with pytest.raises((TypeError, KeyError, AttributeError)):
        write(make_exporter(name, tmp_path, run.header, place), [*records[:2], torn])
    assert state(tmp_path) == before
    with pytest.raises(UsageError, match="nothing to write"):
        write(make_exporter(name, tmp_path, run.header, place), [])
    assert state(tmp_path) == before


def write(exporter, records):
    with exporter:
        exporter.write(records)


def test_what_appears_while_an_export_is_written_stays(run, records, tmp_path):
    place = tmp_path / "place"

    class Interrupted(exporter_class("kohya")):
        def finish(self):
            strange("folder", place)

    with pytest.raises(UsageError, match="choose another DEST"):
        write(Interrupted(place, run.header), records)
    assert state(tmp_path) == {"place": False, "place/thesis.tex": b"years of work"}


@pytest.mark.parametrize("name", FILES)
def test_files_replace_their_like_and_nothing_else(run, tmp_path, name):
    place = tmp_path / FORMATS[name][2]
    place.write_text("a file of yours, which DEST names")
    with pytest.raises(UsageError, match="choose another DEST"):
        export_run(run, name, place)
    assert place.read_text() == "a file of yours, which DEST names"
    place.unlink()
    for _ in range(2):
        export_run(run, name, place)
        assert len(relatent.load_optimized_dataset(place)) == 3
    shutil.rmtree(place, ignore_errors=True)
    place.unlink()
    strange("folder", place)
    with pytest.raises(UsageError, match="choose another DEST"):
        export_run(run, name, place)
    assert (place / "thesis.tex").exists()


@pytest.mark.parametrize("name", FOLDERS)
def test_odd_names_stay_inside_and_lose_nothing(odd, tmp_path, name):
    place = export_run(odd, name, tmp_path / "a" / "place")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["place"]
    verify(place)
    count = len(ODD_NAMES)
    assert json.loads((place / "relatent.json").read_text())["counts"]["total"] == count
    per_picture = {
        "png": "metrics.json", "kohya": "*.npz", "mar": "*.npz", "repa": "*.npy", "ai-toolkit": "*.safetensors",
        "musubi": "*.safetensors", "simpletuner": "*.pt", "comfyui": "*.latent",
    }  # fmt: skip
    if name in per_picture:
        assert len(list(place.rglob(per_picture[name]))) == count


def test_a_trainer_finds_the_names_that_it_can(odd):
    place = export_run(odd, "kohya", odd.out.parent / "kohya")
    sizes = "_0064x0048_sd.npz"
    for stem in ("naïve 写真", "-dash", ".hidden", " spaced ", "a.b.c", "twice", "SHA256SUMS"):
        assert (place / f"{stem}{sizes}").exists()
    notes = json.loads((place / "relatent.json").read_text())["notes"]
    lost = next(note for note in notes if "other names" in note)
    # of two pictures with one stem, the trainer finds the first for both
    expected = [name for name in ODD_NAMES if len(name) > 80 or "\n" in name or "\\" in name or "/" in name]
    assert f"looks for: {len(expected) + 1}." in lost
    for name in (*expected, "twice.png"):
        assert repr(name) in lost
    assert lost in (place / "README.md").read_text()


def test_paths_out_of_the_source_and_absolute_ones_stay_inside(runs, tmp_path):
    paths = ("../x.png", "../../../etc/y.png", "/etc/z.png", "a/../../w.png", "../..png", "~/v.png")
    for name in FOLDERS:
        run = runs[name in WIDE]
        hostile = [
            dataclasses.replace(record, name=f"n{i}", source_path=path, split="all")
            for i, (record, path) in enumerate(zip(records_of(run) * 2, paths, strict=True))
        ]
        place = tmp_path / "deep" / name / "place"
        header = dataclasses.replace(run.header, classes=("_up", "etc", "unlabelled", "~"), splits=("all",))
        write(make_exporter(name, tmp_path, header, place), hostile)
        verify(place)
        assert {path.name for path in (tmp_path / "deep" / name).iterdir()} == {"place"}
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}


def test_a_file_outside_the_folder_is_a_mistake(run, tmp_path):
    exporter = make_exporter("kohya", tmp_path, run.header, tmp_path / "place")
    with pytest.raises(ValueError, match="inside its folder"), exporter, exporter.new_file("../x"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "split", "expected"),
    [
        ("train/cat/1.png", "train", "cat"),
        ("a/train/cat/1.png", "train", "cat"),
        ("a/train/1.png", "train", "a"),
        ("cat/1.png", "all", "cat"),
        ("animals/cat/1.png", "all", "cat"),
        ("train/1.png", "train", "unlabelled"),
        ("1.png", "all", "unlabelled"),
        ("../1.png", "all", "unlabelled"),
        ("../cat/1.png", "all", "cat"),
        ("classes.json/1.png", "all", "_classes.json"),
    ],
)
def test_the_class_is_the_folder(path, split, expected):
    assert class_name(path, split) == expected


def test_survey_knows_the_classes_and_splits_of_the_plan(run, odd):
    def found(folder):
        header = folder.header_for("webdataset")
        return header.classes, header.splits

    assert found(run) == (("cat", "dog"), ("train", "val"))
    assert found(odd) == (("-", "_README.md", "_relatent.json", "unlabelled"), ("all",))


def test_names_are_the_sources_where_they_are_harmless(records):
    for part in ("写真", "-x", ".x", " x ", "a.b", "~", "x" * 255):
        assert safe_part(part) == part
    for part in ("..", ".", "", "a/b", "a\\b", "a\nb", "x" * 256, "\x7f"):
        found = safe_part(part)
        assert found != part
        assert found not in ("", ".", "..")
        assert not set(found) & set("/\\\n\x7f")
        assert len(found.encode()) <= 255
    record = dataclasses.replace(records[0], source_path="../a/README.md/b.c.png")
    assert source_folder(record).as_posix() == "_up/a/_README.md"
    assert source_stem(record, 20) == "b.c"
    assert not is_verbatim(record, 20)
    assert is_verbatim(dataclasses.replace(record, source_path="a/.b.png"), 20)


def test_mirrored_latents_are_never_the_flipped_array(run, records):
    """They are what was found for the mirrored picture, in every format that holds one."""
    for record in records:
        assert not np.allclose(
            record.views["flipped"].optimized_latents, record.optimized_latents[..., ::-1], atol=1e-3
        )
    from safetensors.numpy import load_file

    tensors = load_file(export_run(run, "safetensors") / "train-00000.safetensors")
    for i, record in enumerate(records[:2]):
        assert np.array_equal(tensors["latents_flipped"][i], record.views["flipped"].optimized_latents)


def test_the_command_line_lists_every_format_and_answers_in_a_line(run, tmp_path, capsys, monkeypatch):
    from relatent.cli.main import USAGE, build_parser, main

    monkeypatch.setenv("COLUMNS", "1000")  # argparse breaks lines at hyphens

    for command in ("export", "optimize"):
        with pytest.raises(SystemExit):
            build_parser().parse_args([command, "--help"])
        words = capsys.readouterr().out.replace(",", " ").split()
        assert set(FORMATS) <= set(words)
    strange("folder", tmp_path / "place")
    assert main(["export", str(run.out), "--to", "mar", str(tmp_path / "place")]) == USAGE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "choose another DEST" in error
    assert main(["export", str(run.out), "--to", "mar", str(tmp_path / "mar")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "mar")
    assert Path(tmp_path / "mar" / "train" / "cat" / "1.npz").exists()
