"""anomaly prepare, from a scan or a table to volumes, their index and folds."""

import gzip
import json

import numpy as np
import pytest
from command_line import strict
from relatent.cli.main import main
from relatent.systems.anomaly.data.folds import read_folds
from relatent.systems.anomaly.data.nifti import read_nifti
from relatent.systems.anomaly.data.preparation import Field, resample
from relatent.systems.anomaly.data.volume_folder import read_folder, read_index
from relatent.systems.anomaly.data.volume_reader import read_volume
from small_scans import REAL, affine_of, write_scan


def run(*words):
    return main(["anomaly", "prepare", *map(str, words)])


@pytest.fixture
def table(tmp_path):
    """A table of three sound scans and a damaged one."""
    rows = ["scan,mask,patient,labels,label"]
    for i in range(4):
        folder = tmp_path / "scans" / str(i)
        folder.mkdir(parents=True)
        write_scan(folder, affine_of("canonical"), number=20 + i)
        rows.append(f"{i}/ct.nii.gz,{i}/mask.nii.gz,p{i},verse,{i % 2}")
    scan = tmp_path / "scans" / "2" / "ct.nii.gz"
    scan.write_bytes(scan.read_bytes()[:5000])
    (tmp_path / "scans" / "list.csv").write_text("\n".join(rows))
    return tmp_path / "scans" / "list.csv"


def test_a_table_with_a_damaged_scan(table, tmp_path, capsys):
    command = [table, tmp_path / "out", "--side", 16, "--folds", 2, "--held-out", 1, "--json"]
    assert run(*command) == 1
    found = strict(capsys.readouterr().out)
    assert [one["status"] for one in found["scans"]] == ["done", "done", "failed", "done"]
    assert "2/ct.nii.gz" in found["scans"][2]["reason"]
    assert found["field"] == {"side": 16, "spacing": 1.0, "window": [0.0, 1900.0]}
    volumes, failures = read_folder(tmp_path / "out")
    assert [(one.name, one.label) for one in volumes] == [
        ("vol_p0_L1.npy", 0),
        ("vol_p1_L2.npy", 1),
        ("vol_p3_L4.npy", 1),
    ]
    assert failures == []
    folds = read_folds(tmp_path / "out" / "folds.json")
    assert [list(fold) for fold in folds.folds] == found["folds"]["folds"]
    assert run(*command[:-1]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "unchanged: p0: vol_p0_L1.npy"
    assert lines[2].startswith("failed: p2: ")
    assert lines[4:] == ["folds of 1 + 1, 1 held out"]


def test_one_scan_with_options(tmp_path, capsys):
    scan, mask = write_scan(tmp_path, affine_of("canonical"), number=7)
    (tmp_path / "own.json").write_text(json.dumps({"7": "T8"}))
    own = ["--mask", mask, "--patient", "a", "--labels", tmp_path / "own.json"]
    field = ["--side", 8, "--spacing", 2, "--window", -1000, 3000]
    assert run(scan, tmp_path / "out", *own, *field) == 0
    assert capsys.readouterr().out == "done: a: vol_a_T8.npy\n"
    volume = read_volume(tmp_path / "out" / "vol_a_T8.npy")
    assert volume.shape == (8, 8, 8)
    assert abs(float(volume.mean()) - (900 + 1000) / 4000) < 1e-3  # the ramp is 900 HU in the middle


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s.nii", "out"], "a scan needs --mask and --patient"),
        (["s.nii", "out", "--mask", "m.nii"], "a scan needs --mask and --patient"),
        (["list.csv", "out", "--patient", "p"], "--mask and --patient are of a scan"),
        (["absent.csv", "out"], "absent.csv cannot be read"),
        (["s.nii", "out", "--mask", "m", "--patient", "p", "--window", "3", "2"], "a window"),
    ],
)
def test_usage_errors_are_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_scan_without_an_affine_is_one_line(tmp_path, capsys):
    scan, mask = write_scan(tmp_path, affine_of("canonical"))
    plain = bytearray(gzip.decompress(scan.read_bytes()))
    plain[252:256] = bytes(4)  # qform_code and sform_code
    (tmp_path / "bare.nii").write_bytes(plain)
    assert run(tmp_path / "bare.nii", tmp_path / "out", "--mask", mask, "--patient", "a", "--labels", "verse") == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("failed: a: ")
    assert "states no affine" in line


def test_too_few_patients_for_folds_leave_the_volumes(tmp_path, capsys):
    scan, mask = write_scan(tmp_path, affine_of("canonical"))
    common = ["--mask", mask, "--patient", "a", "--labels", "verse", "--side", 8]
    assert run(scan, tmp_path / "out", *common, "--folds", 5) == 1
    assert capsys.readouterr().out.splitlines()[1].startswith("failed: folds: ")
    assert list(read_index(tmp_path / "out")["volumes"]) == ["vol_a_L3.npy"]


def test_the_real_scans(real_volumes, tmp_path, capsys):
    """Each vertebra lies in the middle of its volume, by its mask through the same affine, and is what is bright in it."""
    rows = [
        {
            "scan": str(real_volumes / f"{scan}.nii.gz"),
            "mask": str(real_volumes / f"{mask}.nii.gz"),
            "patient": case,
            "labels": {str(number): level for number, level in table.items()},
        }
        for case, (scan, mask, table, _) in REAL.items()
    ]
    (tmp_path / "real.json").write_text(json.dumps(rows))
    assert run(tmp_path / "real.json", tmp_path / "out", "--json") == 0
    found = strict(capsys.readouterr().out)
    assert {one["patient"]: sorted(one["volumes"]) for one in found["scans"]} == {
        case: sorted(f"vol_{case}_{level}.npy" for level in levels) for case, (_, _, _, levels) in REAL.items()
    }  # the sacrum, number 26 of the abdomen's mask, is not among them
    index, checked = read_index(tmp_path / "out")["volumes"], 0
    for case, (_, mask, table, levels) in REAL.items():
        numbers = read_nifti(real_volumes / f"{mask}.nii.gz", np.int32)
        for level in levels:
            name = f"vol_{case}_{level}.npy"
            (number,) = (n for n, one in table.items() if one == level)
            vertebra = numbers._replace(values=(numbers.values == number).astype(np.float32))
            inside = resample(vertebra, np.array(index[name]["centroid_mm"]), Field(), order=0) > 0.5
            volume = read_volume(tmp_path / "out" / name)
            assert volume.shape == (128, 128, 128)
            assert volume[inside].mean() > 2 * volume[~inside].mean(), name
            assert np.abs(np.argwhere(inside).mean(axis=0) - 63.5).max() < 1, name
            checked += 1
    assert checked == 11


def test_the_liver_of_a_real_scan_is_at_the_end_of_the_last_axis(real_volumes, tmp_path):
    """The patient's right, by anatomy and not by the affine that the preparation read."""
    scan, mask, _, _ = REAL["abdomen"]
    own = [
        "--mask",
        real_volumes / f"{mask}.nii.gz",
        "--patient",
        "a",
        "--side",
        96,
        "--spacing",
        4,
        "--window",
        0,
        200,
    ]
    assert run(real_volumes / f"{scan}.nii.gz", tmp_path, *own) == 0
    for level in ("T11", "T12", "L1"):  # at the liver's height
        slab = read_volume(tmp_path / f"vol_a_{level}.npy")[40:56]
        assert slab[:, :, 52:72].mean() > 1.25 * slab[:, :, 24:44].mean()
