"""What `relatent verify` finds, and what `--repair` makes of it: the same data, value by value."""

import dataclasses
import json
import random
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import relatent
import torch
from helpers import flip, picture, save_pictures
from PIL import Image
from relatent.cli.main import main
from relatent.engine.errors import DatasetError, UsageError
from relatent.engine.runtime.atomic import file_sha256
from relatent.factory.export import export_run
from relatent.factory.state.lock import RunLock
from relatent.factory.state.run_folder import RunFolder

CONFIG = relatent.OptimizationConfig(iterations=3)
FIRST, SHARD = "shards/shard-000000.h5", "shards/shard-000001.h5"


@pytest.fixture(scope="module")
def made(tmp_path_factory, vae_folder):
    """Five pictures in three shards, one picture that fails, hdf5 and pt."""
    root = tmp_path_factory.mktemp("made")
    save_pictures(root / "in", 5)
    (root / "in" / "2a.png").write_text("no picture")
    relatent.optimize_directory(
        root / "in", root / "out", vae_folder, config=CONFIG, formats=["hdf5", "pt"], size=32, shard_size=2, workers=0,
        device="cpu",
    )  # fmt: skip
    return root / "out"


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made, tmp_path / "out")


def contents(out):
    """Every value of every file."""
    found = {}
    for name in ("dataset.h5", *(f"shards/shard-{number:06d}.h5" for number in range(3))):
        with h5py.File(out / name) as file:
            file.visititems(
                lambda key, item: found.update({f"{name}/{key}": item[()]}) if isinstance(item, h5py.Dataset) else None  # noqa: B023
            )
    content = torch.load(out / "dataset.pt", weights_only=True)
    found |= {key: content[key].numpy() for key in ("initial_latents", "optimized_latents", "original_images")}
    found |= {f"metrics {key}": value.numpy() for key, value in content["metrics"].items()}
    return found


def same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert np.array_equal(value, second[name], equal_nan=value.dtype.kind == "f"), name


def flip_bit(path, seed):
    content = bytearray(path.read_bytes())
    bit = random.Random(seed).randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def faults(out, **options):
    """file name -> what is wrong."""
    found = relatent.verify_run(out, **options)
    json.dumps(found, allow_nan=False)
    return {one["file"].rpartition("/")[2]: one["what"] for one in found["damage"]}


def repaired(out, names):
    found = relatent.verify_run(out, repair=True)
    assert found["damage"] == []
    assert {one["file"].rpartition("/")[2] for one in found["repaired"]} == set(names)
    clean = relatent.verify_run(out)
    assert clean["damage"] == clean["repaired"] == []
    assert clean["status"] == "done"
    assert json.loads((out / "run.json").read_text())["counts"] == {"total": 6, "done": 5, "failed": 1}


def relabel(out, name):
    """Make the ledger believe that a changed shard is what was written."""
    lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    for line in lines:
        if line.get("file") == name.rpartition("/")[2]:
            line["sha256"], line["bytes"] = file_sha256(out / name), (out / name).stat().st_size
    (out / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_an_intact_run_is_clean(out):
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    found = relatent.verify_run(out)
    assert found["damage"] == found["notes"] == found["repaired"] == []
    assert found["shards"] == {"planned": 3, "finished": 3, "unfinished": []}
    assert (found["status"], found["pictures"], found["outputs"]) == ("done", 5, 2)
    assert found["sample"]["decoded"] == 5
    assert found["sample"]["largest_difference_db"] < 1e-3
    assert found["sample"]["not_decoded"] is None
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", [SHARD, "dataset.h5", "dataset.pt"])
def test_a_flipped_bit_anywhere_is_found_and_repaired(out, name, seed):
    if seed % 2:
        export_run(RunFolder.open(out), "hdf5", single_file=True)
    before = contents(out)
    flip_bit(out / name, seed)
    assert faults(out) == {name.rpartition("/")[2]: "its bytes have changed (SHA-256 differs)"}
    repaired(out, [name.rpartition("/")[2]])
    same(contents(out), before)
    with h5py.File(out / "dataset.h5") as file:
        assert file["losses"].is_virtual == (seed % 2 == 0)


def test_missing_and_truncated_files_are_found_and_repaired(out):
    before = contents(out)
    content = (out / SHARD).read_bytes()
    (out / SHARD).write_bytes(content[:-100])
    (out / "shards" / "shard-000002.h5").unlink()
    (out / "dataset.pt").unlink()
    assert faults(out) == {
        "shard-000001.h5": f"holds {len(content) - 100} bytes, {len(content)} in the ledger (SHA-256 differs)",
        "shard-000002.h5": "is missing",
        "dataset.pt": "is missing",
    }
    repaired(out, ["shard-000001.h5", "shard-000002.h5", "dataset.pt"])
    same(contents(out), before)


def test_a_torn_last_line_is_fine_and_a_damaged_one_before_is_one_error(out):
    ledger = out / "ledger.jsonl"
    text = ledger.read_text()
    ledger.write_text(text + '{"kind": "shard", "numb')
    assert faults(out) == {}
    repaired(out, [])
    assert ledger.read_text() == text  # the repair cut it off
    lines = text.splitlines(keepends=True)
    ledger.write_text(lines[0][:-20] + "\n" + "".join(lines[1:]))
    found = relatent.verify_run(out)
    assert len(found["damage"]) == 1
    assert "is damaged in line 1" in found["damage"][0]["what"]
    assert "remove that line" in found["damage"][0]["remedy"]
    before = ledger.read_text()
    assert relatent.verify_run(out, repair=True)["damage"] == found["damage"]  # nothing is guessed
    assert ledger.read_text() == before


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ({"kind": "shard", "number": 7}, "shard 7 of 3"),
        ({"kind": "dropped", "number": True}, "shard True of 3"),
        ({"kind": "dropped"}, "not of this schema: KeyError"),
        ({"kind": "feast"}, "unknown kind 'feast'"),
        (3, "not of this schema: TypeError"),
        ({"kind": "failure", "shard": 0, "name": "nobody"}, "picture 'nobody' is not in the plan"),
    ],
)
def test_ledger_lines_that_fit_nothing(out, line, what):
    with (out / "ledger.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert what in faults(out)["ledger.jsonl"]


def test_a_shard_that_is_finished_twice_and_a_plan_cut_short(out):
    ledger = out / "ledger.jsonl"
    text = ledger.read_text()
    shard = next(line for line in text.splitlines() if '"number": 2' in line)
    ledger.write_text(f"{text}{shard}\n")
    assert "shard 2 is finished a second time" in faults(out)["ledger.jsonl"]
    ledger.write_text(f"{text}{json.dumps({'kind': 'dropped', 'number': 2})}\n{shard}\n")
    assert faults(out) == {}
    plan = (out / "plan.jsonl").read_text().splitlines(keepends=True)
    (out / "plan.jsonl").write_text("".join(plan[:-1]))
    assert faults(out) == {"plan.jsonl": "is damaged: it ends after 5 of 6 pictures"}
    (out / "plan.jsonl").write_text("".join([*plan[:-1], plan[-2]]))
    assert "found 6, 5 different" in faults(out)["plan.jsonl"]


def edit(out, shard, change):
    with h5py.File(out / shard, "r+") as file:
        change(file)
    relabel(out, shard)


def poison(file):
    file["optimized_latents"][1, 0, 0, 0] = np.nan


def rename(file):
    file["image_name"][0] = "another"


def shorten(file):
    file["losses"].resize(1, axis=0)


def strip(file):
    del file["metrics/final_ssim"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (poison, "/optimized_latents: NaN or infinity in 1"),
        (rename, "holds 2 pictures from 'another' on where the plan has 2 pictures from '0' on"),
        (shorten, "/losses: 1 rows, expected 2"),
        (strip, "lacks the columns metrics/final_ssim"),
    ],
)
def test_wrong_content_under_a_right_checksum(out, change, what):
    before = contents(out)
    edit(out, FIRST, change)
    assert faults(out) == {"shard-000000.h5": what}
    assert relatent.verify_run(out, repair=True)["damage"] == []
    same(contents(out), before)


def test_a_flipped_bit_under_a_right_checksum_meets_hdf5s_own(out):
    flip(out / SHARD, "images/initial", 0)
    relabel(out, SHARD)
    assert "cannot be read" in faults(out)["shard-000001.h5"]


def test_a_wrong_latent_is_found_by_decoding(out):
    before = contents(out)

    def swap(file):
        file["optimized_latents"][:] = file["optimized_latents"][:] + 0.5

    edit(out, SHARD, swap)
    assert "dB recorded" in faults(out)["shard-000001.h5"]
    assert relatent.verify_run(out, repair=True)["damage"] == []
    same(contents(out), before)


def test_a_folder_is_checked_by_its_sums(out):
    place = export_run(RunFolder.open(out), "webdataset")
    assert faults(out) == {}
    shard = next(place.rglob("*.tar"))
    flip_bit(shard, 0)
    assert faults(out) == {"webdataset": f"{shard.relative_to(place)} has changed (SHA-256 differs)"}
    repaired(out, ["webdataset"])
    assert (out / "webdataset.damaged-1").is_dir()  # nobody's work is deleted
    shard.unlink()
    assert faults(out) == {"webdataset": f"{shard.relative_to(place)} is missing"}
    (place / "SHA256SUMS").write_bytes(b"")
    assert "SHA256SUMS is missing or has changed" in faults(out)["webdataset"]
    repaired(out, ["webdataset"])
    assert shard.stat().st_size > 0


def test_outputs_elsewhere(out, tmp_path):
    folder = RunFolder.open(out)
    export_run(folder, "pt", tmp_path / "a.pt")
    assert relatent.verify_run(out)["outputs"] == 3
    flip_bit(tmp_path / "a.pt", 0)
    repaired(out, ["a.pt"])
    assert (tmp_path / "a.pt.damaged-1").exists()
    (tmp_path / "a.pt").unlink()
    found = relatent.verify_run(out)  # taken away, which is anybody's right
    assert found["damage"] == []
    assert "a.pt is no longer there" in found["notes"][0]


@pytest.mark.parametrize("name", ["pt", "hdf5", "webdataset"])
def test_what_others_have_put_where_an_output_was_stays_theirs(out, tmp_path, vae_folder, name):
    """Another run's export, and a file of the user's."""
    Image.fromarray(picture(seed=9)).save(tmp_path / "one.png")
    relatent.optimize_directory(
        tmp_path / "one.png", tmp_path / "second", vae_folder, config=CONFIG, size=32, device="cpu"
    )
    second, place = RunFolder.open(tmp_path / "second"), tmp_path / "shared"
    export_run(RunFolder.open(out), name, place)
    export_run(second, name, place)
    found = relatent.verify_run(out, repair=True)
    assert [damage["file"] for damage in found["damage"]] == [str(place)]
    assert found["damage"][0]["what"].startswith("is not what this run wrote there: ")
    assert found["damage"][0]["remedy"].startswith("move it away, and `relatent export")
    assert found["repaired"] == []
    assert relatent.verify_run(second.out)["damage"] == []
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    place.write_text("mine")
    flip_bit(out / FIRST, 0)  # what was exported from it would be written again
    assert len(relatent.verify_run(out, repair=True)["damage"]) == 1
    assert place.read_text() == "mine"


@pytest.mark.parametrize("name", ["pt", "hdf5", "webdataset"])
def test_a_repair_outside_keeps_what_was_there_whoever_has_written_it(out, tmp_path, vae_folder, name):
    """Two runs that began in the same second cannot be told apart by when they began."""
    Image.fromarray(picture(seed=9)).save(tmp_path / "one.png")
    relatent.optimize_directory(
        tmp_path / "one.png", tmp_path / "second", vae_folder, config=CONFIG, size=32, device="cpu"
    )
    first, second, place = RunFolder.open(out), RunFolder.open(tmp_path / "second"), tmp_path / "shared"
    second.update(created=first.record.created)
    second.save()
    export_run(first, name, place)
    export_run(second, name, place)
    aside = tmp_path / "shared.damaged-1"
    before = (place / "SHA256SUMS" if place.is_dir() else place).read_bytes()
    repaired(out, ["shared"])
    assert (aside / "SHA256SUMS" if aside.is_dir() else aside).read_bytes() == before


@pytest.mark.parametrize("name", ["hdf5", "pt"])
def test_damage_that_hides_whose_an_output_is_leaves_it_alone(out, tmp_path, name):
    place = tmp_path / "shared"
    export_run(RunFolder.open(out), name, place)
    whole = place.read_bytes()
    mark, generator = RunFolder.open(out).record.created.encode(), random.Random(0)
    near = [at + generator.randrange(-64, 64) for at in (whole.find(mark), whole.rfind(mark)) for _ in range(12)]
    for at in [*near, len(whole) // 2, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at : at + 16] = bytes(16)
        place.write_bytes(damaged)
        found = relatent.verify_run(out)["damage"]
        assert [one["file"] for one in found] == ([str(place)] if damaged != whole else [])
    place.unlink()
    place.mkdir()
    assert [one["file"] for one in relatent.verify_run(out, repair=True)["damage"]] == [str(place)]


@pytest.mark.parametrize("name", ["pt", "hdf5"])
def test_an_export_replaces_no_other_file(out, tmp_path, name):
    folder, place = RunFolder.open(out), tmp_path / "photo.png"
    place.write_text("mine")
    other = out / ("dataset.h5" if name == "pt" else "dataset.pt")
    before = file_sha256(other)
    for taken in (place, other):
        with pytest.raises(UsageError, match="choose another DEST"):
            export_run(folder, name, taken)
    assert place.read_text() == "mine"
    assert file_sha256(other) == before
    for _ in range(2):  # its own it does replace
        export_run(folder, name, tmp_path / "export")


def test_a_folder_in_place_of_a_shard_is_set_aside(out):
    before = contents(out)
    (out / SHARD).unlink()
    (out / SHARD).mkdir()
    (out / SHARD / "notes.txt").write_text("mine")
    assert faults(out)["shard-000001.h5"] == "is no file"
    found = relatent.verify_run(out, repair=True)
    assert found["damage"] == []
    assert str(out / SHARD) in [one["file"] for one in found["repaired"]]
    same(before, contents(out))
    assert (out / f"{SHARD}.damaged-1" / "notes.txt").read_text() == "mine"
    assert any("damaged-1 is none of the run's" in note for note in found["notes"])


def test_what_is_unfinished_is_no_damage(out):
    before = contents(out)
    RunFolder.open(out).ledger.drop([1])
    (out / "shards" / "notes.txt").write_text("mine")
    found = relatent.verify_run(out)
    assert found["damage"] == []
    assert found["shards"] == {"planned": 3, "finished": 2, "unfinished": [1]}
    assert "relatent resume" in found["notes"][0]
    assert "notes.txt is none of the run's" in found["notes"][1]
    (out / SHARD).unlink()
    assert faults(out) == {}
    flip_bit(out / FIRST, 0)
    found = relatent.verify_run(out, repair=True)  # the broken one alone
    assert found["damage"] == []
    assert found["status"] == "interrupted"
    assert found["shards"]["unfinished"] == [1]
    assert relatent.resume_directory(out)["status"] == "done"
    assert faults(out) == {}
    same(contents(out), before)
    assert (out / "shards" / "notes.txt").exists()


def test_what_was_exported_before_the_end_is_brought_up_to_date(out):
    """Else the virtual dataset would show another order, or less, than there is."""
    before = contents(out)
    folder = RunFolder.open(out)
    settings = dataclasses.replace(folder.record.settings, formats=("pt",))
    outputs = {name: place for name, place in folder.record.outputs.items() if name != "hdf5"}
    folder.update(settings=settings, outputs=outputs)
    folder.save()
    folder.ledger.drop([0])
    assert main(["export", str(out), "--to", "hdf5"]) == 0
    assert len(relatent.load_optimized_dataset(out / "dataset.h5")) == 3
    assert faults(out) == {}
    relatent.resume_directory(out)
    assert faults(out) == {}
    same(contents(out), before)


def test_an_interrupted_shard_may_be_ahead_of_the_ledger(out):
    """The process was killed between the file and its line."""
    lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    for line in lines:
        if line.get("number") == 0:
            line |= {"whole": False, "images": 1, "sha256": "0" * 64}
    (out / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert faults(out) == {}
    flip(out / FIRST, "losses", 0)
    assert "cannot be read" in faults(out)["shard-000000.h5"]


def test_repair_changes_nothing_where_it_cannot_succeed(out, made, vae_folder, tmp_path):
    flip_bit(out / SHARD, 0)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "run.lock"}
    source = made.parent / "in" / "2.png"
    content = source.read_bytes()
    source.write_bytes(b"another")
    try:
        with pytest.raises(UsageError, match=r"2\.png has changed"):
            relatent.verify_run(out, repair=True)
    finally:
        source.write_bytes(content)
    with RunLock(out), pytest.raises(UsageError, match="in use by another run"):
        relatent.verify_run(out, repair=True)
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(DatasetError, match="holds no run"):
        relatent.verify_run(tmp_path)


def test_an_autoencoder_from_memory(photographs, tmp_path, small_vae):
    out = tmp_path / "out"
    relatent.optimize_directory(photographs, out, small_vae, config=CONFIG, size=32, keep_images=False, workers=0)
    found = relatent.verify_run(out)
    assert found["damage"] == []
    assert found["sample"]["decoded"] == 0
    assert "from memory" in found["sample"]["not_decoded"]
    assert relatent.verify_run(out, autoencoder=small_vae)["sample"]["decoded"] == 4  # read from the sources again
    (photographs / "loose.bmp").rename(tmp_path / "loose.bmp")
    found = relatent.verify_run(out, autoencoder=small_vae)
    assert found["sample"]["decoded"] == 3
    assert "loose.bmp: " in found["sample"]["not_decoded"]
    (tmp_path / "loose.bmp").rename(photographs / "loose.bmp")
    flip_bit(out / FIRST, 0)
    with pytest.raises(UsageError, match=r"verify_run\(out, repair=True, autoencoder"):
        relatent.verify_run(out, repair=True)
    assert relatent.verify_run(out, repair=True, autoencoder=small_vae)["damage"] == []
    other = relatent.load_autoencoder("tiny", device="cpu")
    assert "another than that" in relatent.verify_run(out, autoencoder=other)["sample"]["not_decoded"]


def test_masks_and_mirrors_are_decoded_as_they_were_measured(photographs, tmp_path, small_vae):
    for path in sorted(photographs.rglob("*.*")):
        mask = tmp_path / "masks" / path.relative_to(photographs).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((48, 64), np.uint8)
        pixels[:, :30] = 255
        Image.fromarray(pixels).save(mask)
    relatent.optimize_directory(
        photographs, tmp_path / "out", small_vae, config=CONFIG, size=32, masks=tmp_path / "masks", flip=True, workers=0
    )
    found = relatent.verify_run(tmp_path / "out", autoencoder=small_vae)
    assert found["damage"] == []
    assert found["sample"]["decoded"] == 4
    assert found["sample"]["largest_difference_db"] < 1e-3


def command(*arguments):
    words = [sys.executable, "-m", "relatent", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True)


def test_from_the_command_line(out, tmp_path, capsys):
    before = contents(out)
    done = command("verify", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert "done, 3 of 3 shards, 5 sound pictures, 2 outputs, 0 damaged" in done.stdout
    assert "5 pictures decoded" in done.stdout
    flip_bit(out / SHARD, 5)
    flip_bit(out / "dataset.pt", 5)
    assert main(["verify", str(out)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "differs" in line]
    assert [line.partition(": ")[0] for line in lines] == [str(out / SHARD), str(out / "dataset.pt")]
    assert all("--repair` " in line for line in lines)
    done = command("verify", out, "--repair", "--json", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["damage"] == []
    assert len(found["repaired"]) == 2
    same(contents(out), before)
    assert main(["verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == 2
    assert main(["export", str(out), "--to", "hdf5", "--single-file"]) == 0
    with h5py.File(out / "dataset.h5") as file:
        assert not file["losses"].is_virtual
    assert main(["verify", str(out)]) == 0
    assert main(["export", str(out), "--to", "pt", "--single-file"]) == 2
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert "holds no run" in capsys.readouterr().err
