"""Runs that version 0.1.0 wrote open, verify, export and go on: one that is finished, and one that SIGKILL ended."""

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers import picture
from PIL import Image
from relatent import load_optimized_dataset
from relatent.cli.main import main
from relatent.factory.state.run_folder import RunFolder

ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "runs-0.1.0.tar.xz"
PICTURES = ["first", "second", "third", "loose"]  # `broken` is no picture
FORMATS = {
    "finished": ["hdf5", "pt", "png", "webdataset", "kohya"],
    "interrupted": ["hdf5", "png", "safetensors"],
}
# the commands that began the runs
COMMANDS = {
    "finished": ["--iterations", "4", "--shard-size", "2", "--flip"],
    "interrupted": ["--iterations", "40", "--shard-size", "1"],
}

# a warning is for what a user writes now, not for what an older version has recorded
pytestmark = pytest.mark.filterwarnings("error::FutureWarning")


@pytest.fixture
def old_runs(tmp_path, monkeypatch, one_thread) -> Path:
    """The working folder, with `photos/`, `finished/` and `interrupted/`."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(
            tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )  # from 3.11.4 on
    for name in ("finished", "interrupted"):
        plan = tmp_path / name / "plan.jsonl"
        plan.write_text(plan.read_text().replace("FOLDER/", f"{tmp_path}/"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def optimize(name: str, *options: str) -> int:
    """The command that began the run, once more, with more options; returns the exit status."""
    formats = [part for kind in FORMATS[name] for part in ("--format", kind)]
    common = ["--vae", "tiny", "--size", "64", "--precision", "fp32"]
    return main(["optimize", "photos", name, *common, *COMMANDS[name], *formats, *options])


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, but for the lock, by its relative name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.lock"
    }


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_an_old_run_opens_verifies_and_reports(old_runs, capsys, name):
    before = checksums(old_runs / name)
    assert main(["info", name]) == 0
    assert "first" in capsys.readouterr().out
    assert main(["verify", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["damage"] == []
    assert found["sample"]["not_decoded"] is None
    assert found["sample"]["decoded"] == found["pictures"] == (4 if name == "finished" else 2)
    assert main(["report", name]) == 0
    assert "first" in (old_runs / name / "report.html").read_text()
    after = checksums(old_runs / name)
    del after["report.html"]
    assert after == before


@pytest.mark.parametrize("name", ["finished", "interrupted"])
@pytest.mark.parametrize("kind", ["hdf5", "safetensors", "repa"])
def test_an_old_run_exports_to_other_formats(old_runs, capsys, name, kind):
    assert main(["export", name, "--to", kind, "--json"]) == 0
    place = Path(json.loads(capsys.readouterr().out)["path"])
    assert place.exists()
    if kind == "hdf5":
        assert len(load_optimized_dataset(place)) == (4 if name == "finished" else 2)
    assert main(["verify", name]) == 0


@pytest.mark.parametrize("file", ["dataset.h5", "dataset.pt"])
def test_old_datasets_load(old_runs, file):
    dataset = load_optimized_dataset(old_runs / "finished" / file)
    assert [sample["image_name"] for sample in dataset] == PICTURES
    for sample in dataset:
        assert sample["optimized_latents"].shape == sample["optimized_latents_flipped"].shape == (4, 8, 8)
        assert sample["metrics"]["psnr_improvement"] > 0


def test_the_same_command_leaves_a_finished_old_run_as_it_is(old_runs):
    before = checksums(old_runs / "finished")
    assert optimize("finished") == 1  # one picture had failed
    assert main(["resume", "finished"]) == 1
    assert checksums(old_runs / "finished") == before


@pytest.mark.parametrize("command", ["resume", "optimize"])
def test_an_interrupted_old_run_goes_on_to_its_end(old_runs, capsys, command):
    shards = {
        name: digest for name, digest in checksums(old_runs / "interrupted").items() if name.startswith("shards/")
    }
    assert (main(["resume", "interrupted"]) if command == "resume" else optimize("interrupted")) == 1
    out = old_runs / "interrupted"
    assert shards.items() <= checksums(out).items(), "what was finished is not made again"
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "done"
    assert run["counts"] == {"total": 5, "done": 4, "failed": 1}
    assert list(run["outputs"]) == FORMATS["interrupted"]
    assert [record.name for records in RunFolder.open(out).records() for record in records] == PICTURES
    dataset = load_optimized_dataset(out / "dataset.h5")
    assert [sample["image_name"] for sample in dataset] == PICTURES
    assert all(np.isfinite(sample["optimized_latents"].numpy()).all() for sample in dataset)
    capsys.readouterr()
    assert main(["verify", "interrupted", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["damage"] == []
    assert (found["pictures"], found["outputs"]) == (4, 3)


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_an_old_run_takes_up_new_pictures(old_runs, capsys, name):
    shards = {place: digest for place, digest in checksums(old_runs / name).items() if place.startswith("shards/")}
    for new in ("0.png", "train/second.png"):
        Image.fromarray(picture(64, 64, 9)).save(old_runs / "photos" / new)
    assert optimize(name) == 2
    assert "0.png is new" in capsys.readouterr().err
    assert optimize(name, "--add") == 1  # one picture had failed
    assert shards.items() <= checksums(old_runs / name).items(), "what was finished is not made again"
    folder = RunFolder.open(old_runs / name)
    assert folder.record.counts == {"total": 7, "done": 6, "failed": 1}
    names = [record.name for records in folder.records() for record in records]
    assert (names[:4], len(names), len(set(names))) == (PICTURES, 6, 6)
    dataset = load_optimized_dataset(old_runs / name / "dataset.h5")
    assert [sample["image_name"] for sample in dataset] == names
    capsys.readouterr()
    assert main(["verify", name, "--inputs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["damage"], found["inputs"]) == ([], {"checked": 7, "changed": []})
