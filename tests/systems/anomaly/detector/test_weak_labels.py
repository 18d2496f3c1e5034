"""Boxes and slices from masks and from volumes.json, at the side that the volumes have."""

import json

import numpy as np
import pytest
from relatent.systems.anomaly.data.errors import VolumeError
from relatent.systems.anomaly.data.volume import Volume
from relatent.systems.anomaly.data.volume_reader import fit
from relatent.systems.anomaly.detector.weak_labels import WeakLabels, box_of, region_of, slices_of


@pytest.fixture
def mask():
    mask = np.zeros((8, 6, 10), bool)
    mask[2, 1, 4] = mask[5, 3, 9] = True
    return mask


@pytest.fixture
def volume(tmp_path, mask):
    """An abnormal volume with a mask, and a function that writes its entry."""
    name = "vol_p01_L1.npy"
    np.save(tmp_path / name, np.zeros(mask.shape, np.float32))
    np.save(tmp_path / "mask.npy", mask)

    def enter(**entry):
        index = {"schema": 1, "synthetic": False, "volumes": {name: {"label": 1, **entry}}}
        (tmp_path / "volumes.json").write_text(json.dumps(index))

    return Volume(name, "p01", 1, tmp_path / name, tmp_path / "mask.npy"), enter


def test_boxes_and_slices_of_masks(mask):
    assert box_of(mask) == ((2, 1, 4), (6, 4, 10))
    assert box_of(mask, 2) == ((0, 0, 2), (8, 6, 10))  # not beyond the volume
    assert (slices_of(mask), slices_of(mask, 1)) == ((2, 6), (1, 7))
    with pytest.raises(VolumeError, match="no voxel"):
        box_of(np.zeros((2, 2, 2), bool))


@pytest.mark.parametrize("side", [4, 8, 13])
def test_a_region_is_cropped_and_padded_as_its_volume(volume, mask, side):
    whole = np.zeros(mask.shape, bool)
    whole[2:6, 1:4, 4:10] = True
    assert np.array_equal(WeakLabels("boxes", side).region(volume[0]), fit(whole, side))
    slices = np.zeros(mask.shape, bool)
    slices[1:7] = True
    found = WeakLabels("slices", side, margin=1).region(volume[0])
    assert np.array_equal(found, fit(slices, side))


def test_entries_win_over_masks(volume, mask):
    one, enter = volume
    enter(box=[[0, 0, 0], [1, 2, 3]], slices=[7, 8])
    assert WeakLabels("boxes", 10).region(one).sum() == 6
    assert WeakLabels("slices", 10).region(one).sum() == 6 * 10


def test_a_normal_volume_has_no_region(volume):
    one = volume[0]
    for label in (0, None):
        assert not WeakLabels("boxes", 8).region(Volume(one.name, "p01", label, one.source, one.mask)).any()


@pytest.mark.parametrize(
    ("kind", "entry", "told"),
    [
        ("boxes", [[0, 0, 0], [9, 2, 3]], "no box in a volume of"),
        ("boxes", [[-1, 0, 0], [2, 2, 3]], "no box in a volume of"),
        ("boxes", [[2, 0, 0], [2, 2, 3]], "no box in a volume of"),
        ("boxes", [[0, 0], [1, 1]], "expected box in volumes.json"),
        ("boxes", [[0, 0, 0.5], [1, 1, 1]], "expected box in volumes.json"),
        ("boxes", "all", "expected box in volumes.json"),
        ("slices", [3, 9], "no box in a volume of"),
        ("slices", [1, 2, 3], "expected slices in volumes.json"),
        ("slices", {"from": 1}, "expected slices in volumes.json"),
        ("slices", [True, 2], "expected slices in volumes.json"),
        ("slices", 4, "expected slices in volumes.json"),
    ],
)
def test_entries_that_do_not_fit_are_told_with_the_volume(volume, kind, entry, told):
    one, enter = volume
    enter(**{"box" if kind == "boxes" else "slices": entry})
    with pytest.raises(VolumeError, match=rf"vol_p01_L1\.npy: .*{told}"):
        WeakLabels(kind, 8).region(one)


def test_what_is_missing_is_told(volume, tmp_path):
    one, enter = volume
    bare = Volume(one.name, "p01", 1, one.source)
    with pytest.raises(VolumeError, match=r"neither slices in volumes\.json nor a mask"):
        WeakLabels("slices", 8).region(bare)
    enter(box=[[0, 0, 0], [1, 1, 1]])
    with pytest.raises(VolumeError, match="outside the 4 voxels a side"):
        WeakLabels("boxes", 4).region(one)
    np.save(tmp_path / "mask.npy", np.zeros((8, 6, 10), bool))
    enter()
    with pytest.raises(VolumeError, match=r"vol_p01_L1\.npy: the mask has no voxel"):
        WeakLabels("boxes", 8).region(one)


def test_a_region_is_inside_its_box():
    region = region_of(((1, 0, 2), (3, 1, 4)), (4, 4, 4), "x")
    assert region.sum() == 4
    assert region[1:3, 0, 2:4].all()
