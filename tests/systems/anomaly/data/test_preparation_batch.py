"""Many scans: what fails leaves the rest alone, a second call changes nothing, labels can be given."""

import json
import os
import signal

import nibabel
import numpy as np
import pytest
from relatent.systems.anomaly.data.errors import FoldsError, VolumeError
from relatent.systems.anomaly.data.folds import read_folds
from relatent.systems.anomaly.data.preparation import Field
from relatent.systems.anomaly.data.preparation_batch import FOLDS, prepare_scans, write_volume_folds
from relatent.systems.anomaly.data.procedural import write_procedural
from relatent.systems.anomaly.data.scan_list import Scan
from relatent.systems.anomaly.data.volume_folder import INDEX, read_folder, read_index
from small_scans import affine_of, write_scan

FIELD = Field(side=16)


@pytest.fixture
def scans(tmp_path):
    """Four scans in folders of their own; the third one's mask has numbers of no table."""
    found = []
    for i in range(4):
        folder = tmp_path / f"scan{i}"
        folder.mkdir()
        write_scan(folder, affine_of("flipped"), number=200 if i == 2 else 20 + i)
        found.append(Scan(f"scan{i}/ct.nii.gz", f"scan{i}/mask.nii.gz", f"p{i}", "verse", folder=tmp_path))
    return found


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(scan, /, **changes):
    return Scan(**{**vars(scan), **changes})


def statuses(scans, folder, *more):
    return [one.status for one in prepare_scans(scans, folder, FIELD, *more)]


def test_what_fails_is_one_line_and_a_second_call_changes_nothing(scans, tmp_path):
    twice = [*scans, changed(scans[1], patient="p0"), changed(scans[0], patient="a/b"), changed(scans[0], scan="x")]
    out = list(prepare_scans(twice, tmp_path / "out", FIELD))
    assert [one.status for one in out] == ["done", "done", "failed", "done", "failed", "failed", "failed"]
    for one, words in zip(
        [each for each in out if each.reason], ["none of the labels", "named twice", "patient:", "p0"], strict=True
    ):
        assert words in one.reason
        assert len(one.reason.splitlines()) == 1
    assert out[0].volumes == ("vol_p0_L1.npy",)
    before = content(tmp_path / "out")
    inodes = {path.name: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    assert statuses(scans, tmp_path / "out") == ["unchanged", "unchanged", "failed", "unchanged"]
    assert content(tmp_path / "out") == before
    assert {path.name: path.stat().st_ino for path in (tmp_path / "out").iterdir()} == inodes


def test_labels_by_patient_and_by_level(scans, tmp_path):
    def labels(*given):
        rows = [changed(scan, label=label) for scan, label in zip((scans[0], scans[1], scans[3]), given, strict=True)]
        found = statuses(rows, tmp_path / "out")
        return found, [volume.label for volume in read_folder(tmp_path / "out")[0]]

    assert labels("0", {"L2": 1}, None) == (["done"] * 3, [0, 1, None])
    assert labels(None, None, '{"L4": 0}') == (["unchanged"] * 3, [0, 1, 0])  # those not given stay
    assert labels("1", {"L3": 1}, None) == (["unchanged", "failed", "unchanged"], [1, 1, 0])
    assert statuses([changed(scans[0], label={"L5": 1})], tmp_path / "new") == ["failed"]
    assert read_folder(tmp_path / "new") == ([], [])


def test_a_patient_of_another_scan_is_refused_or_replaced(scans, tmp_path):
    out = tmp_path / "out"
    assert statuses(scans[:2], out) == ["done", "done"]
    other = changed(scans[3], patient="p0")
    (refused,) = prepare_scans([other], out, FIELD)
    assert "patient p0 is in" in refused.reason
    assert "--replace" in refused.reason
    (refused,) = prepare_scans([scans[0]], out, Field(side=8))
    assert refused.status == "failed"
    assert statuses([other], out, True) == ["done"]
    assert sorted(path.name for path in out.glob("*.npy")) == ["vol_p0_L4.npy", "vol_p1_L2.npy"]
    assert list(read_index(out)["volumes"]) == ["vol_p0_L4.npy", "vol_p1_L2.npy"]


def test_what_a_kill_left_undone_is_done(scans, tmp_path):
    """Killed after the volume's file and before the index: the file is not known, and is written again."""
    out = tmp_path / "out"
    if (child := os.fork()) == 0:
        from relatent.systems.anomaly.data import preparation

        preparation.add_to_index = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        list(prepare_scans(scans[:1], out, FIELD))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (out / "vol_p0_L1.npy").is_file()
    assert statuses(scans[:2], out) == ["done", "done"]
    (out / "vol_p0_L1.npy").unlink()
    assert statuses(scans[:2], out) == ["done", "unchanged"]
    assert statuses(scans[:2], tmp_path / "whole") == ["done", "done"]
    assert content(out) == content(tmp_path / "whole")


def test_a_folder_of_synthetic_volumes_is_refused(scans, tmp_path):
    write_procedural(tmp_path / "out", 1, seed=0, side=8)
    with pytest.raises(VolumeError, match="synthetic"):
        statuses(scans, tmp_path / "out")


def test_folds_of_what_was_prepared(scans, tmp_path):
    out = tmp_path / "out"
    statuses(scans, out)
    folds = write_volume_folds(out, seed=1, count=2, held_out=1)
    assert folds == read_folds(out / FOLDS) == write_volume_folds(out, seed=1, count=2, held_out=1)
    assert folds.patients == {"p0", "p1", "p3"}
    with pytest.raises(FoldsError, match="has other folds"):
        write_volume_folds(out, seed=1, count=3, held_out=0)
    assert read_folds(out / FOLDS) == folds


def test_thirty_patients_and_eight_held_out_from_a_folder(tmp_path):
    """The specified layout: five folds of six."""
    entries = {f"vol_p{i:02d}_L{level}.npy": {"label": 0} for i in range(38) for level in (1, 2)}
    for name in entries:
        np.save(tmp_path / name, np.zeros((2, 2, 2), np.float32))
    (tmp_path / INDEX).write_text(json.dumps({"schema": 1, "synthetic": False, "volumes": entries}))
    folds = write_volume_folds(tmp_path, seed=42, count=5, held_out=8)
    assert [len(fold) for fold in (*folds.folds, folds.held_out)] == [6, 6, 6, 6, 6, 8]
    volumes, _ = read_folder(tmp_path)
    seen = []
    for k in range(1, 6):
        split = folds.split(volumes, k)
        assert [len(part) for part in split] == [48, 12, 16]
        parts = [{volume.patient for volume in part} for part in split]
        assert not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])
        seen += sorted(parts[1])
    assert len(set(seen)) == len(seen) == 30


def test_a_scan_without_an_affine_is_one_line(scans, tmp_path):
    path = tmp_path / scans[0].scan
    image = nibabel.load(path)
    image.header["sform_code"] = image.header["qform_code"] = 0
    bare = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    nibabel.save(bare, path)
    out = list(prepare_scans(scans[:2], tmp_path / "out", FIELD))
    assert "states no affine" in out[0].reason
    assert out[1].status == "done"
