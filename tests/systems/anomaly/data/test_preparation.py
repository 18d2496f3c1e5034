"""From CT and masks to volumes: where each voxel lies, what it shows, what is refused."""

import gzip

import nibabel
import numpy as np
import pytest
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.errors import VolumeError
from relatent.systems.anomaly.data.label_tables import TABLES, TOTALSEGMENTATOR, VERSE
from relatent.systems.anomaly.data.names import LEVELS
from relatent.systems.anomaly.data.nifti import Nifti, read_nifti
from relatent.systems.anomaly.data.preparation import Field, find_centroids, low_pass_sigmas, prepare_scan, resample
from relatent.systems.anomaly.data.volume_folder import read_folder, read_index
from relatent.systems.anomaly.data.volume_reader import read_volume
from scipy import ndimage
from small_scans import REAL, SHAPE, affine_of, ramp, rotation, write_scan

SMALL = Field(side=16)


def grid(centre, side, spacing=1.0):
    """The place (D, H, W, 3), in x, y, z, of each voxel of a volume."""
    offsets = (np.arange(side) - (side - 1) / 2) * spacing
    z, y, x = np.meshgrid(offsets, offsets, offsets, indexing="ij")
    return np.stack([x, y, z], -1) + centre


@pytest.mark.parametrize(
    "case", ["canonical", "flipped", "anisotropic, axes exchanged", "anisotropic, oblique, flipped"]
)
@pytest.mark.parametrize("spacing", [1.0, 0.7])
def test_each_voxel_shows_its_place_in_the_world(tmp_path, case, spacing):
    scan, mask = write_scan(tmp_path, affine_of(case))
    (path,) = prepare_scan(scan, mask, "p01", tmp_path / "out", field=Field(16, spacing))
    assert path.name == "vol_p01_L3.npy"
    expected = np.clip(ramp(grid([100, -50, 300], 16, spacing)) / 1900, 0, 1)
    np.testing.assert_allclose(np.load(path), expected, atol=2e-5)


def test_the_axes_run_to_head_front_and_right():
    affine = affine_of("anisotropic, oblique, flipped")
    values = np.zeros(SHAPE, np.float32)
    for towards, axis in [((0, 0, 4), 0), ((0, 4, 0), 1), ((4, 0, 0), 2)]:
        place = np.array([100, -50, 300]) + towards
        values[:] = 0
        values[tuple(np.rint(np.linalg.solve(affine[:3, :3], place - affine[:3, 3])).astype(int))] = 1
        found = resample(Nifti(values, affine), np.array([100.0, -50, 300]), Field(15))
        centre = np.array(np.nonzero(found > 0.2)).mean(axis=1) - 7
        assert int(np.argmax(centre)) == axis
        assert centre[axis] > 2.5


def test_beyond_the_scan_is_zero_and_the_window_clips(tmp_path):
    scan, mask = write_scan(tmp_path, affine_of("canonical"))
    (path,) = prepare_scan(scan, mask, "p01", tmp_path / "out", field=Field(65, window=(500, 1000)))
    volume = np.load(path)
    place = grid([100, -50, 300], 65)
    index = place - affine_of("canonical")[:3, 3]
    inside = ((index >= 0) & (index <= np.array(SHAPE) - 1)).all(axis=-1)
    expected = np.where(inside, np.clip((ramp(place) - 500) / 500, 0, 1), 0)
    np.testing.assert_allclose(volume, expected, atol=2e-5)
    assert (volume == 1).any()


def test_the_scan_may_have_another_grid_than_the_mask(tmp_path):
    (tmp_path / "other").mkdir()
    scan, _ = write_scan(tmp_path / "other", affine_of("anisotropic, oblique, flipped"))
    _, mask = write_scan(tmp_path, affine_of("canonical"))
    (path,) = prepare_scan(scan, mask, "p01", tmp_path / "out", field=SMALL)
    np.testing.assert_allclose(np.load(path), np.clip(ramp(grid([100, -50, 300], 16)) / 1900, 0, 1), atol=2e-5)


def test_slope_and_intercept_of_the_header_are_applied(tmp_path):
    scan = tmp_path / "ct.nii.gz"
    image = nibabel.Nifti1Image(np.full(SHAPE, 700, np.int16), affine_of("canonical"))
    image.header.set_slope_inter(2, -1000)
    nibabel.save(image, scan)
    stored = nibabel.load(scan).dataobj
    assert (stored.slope, stored.inter) == (2, -1000)
    np.testing.assert_array_equal(read_nifti(scan, np.float32).values, np.full(SHAPE, 2 * 700 - 1000))


def test_what_is_known_is_listed_beside_the_volumes(tmp_path):
    scan, mask = write_scan(tmp_path, affine_of("canonical"))
    prepare_scan(scan, mask, "p01", tmp_path / "out", field=SMALL)
    prepare_scan(scan, mask, "p02", tmp_path / "out", field=SMALL)
    index = read_index(tmp_path / "out")
    assert index["synthetic"] is False
    assert list(index["volumes"]) == ["vol_p01_L3.npy", "vol_p02_L3.npy"]
    entry = index["volumes"]["vol_p02_L3.npy"]
    np.testing.assert_allclose(entry.pop("centroid_mm"), [100, -50, 300], atol=1e-4)
    assert len(entry.pop("made_from")) == 64
    assert entry == {"label": None, "scan": "ct.nii.gz", "cut_off": False}
    volumes, failures = read_folder(tmp_path / "out")
    assert [(v.patient, v.label, v.mask) for v in volumes] == [("p01", None, None), ("p02", None, None)]
    assert failures == []


def test_a_vertebra_at_the_edge_is_said_to_be_cut_off():
    values = np.zeros((6, 6, 6), np.int32)
    values[0:2, 2, 2] = 24
    values[3, 3, 3] = 23
    found = find_centroids(Nifti(values, np.diag([2.0, 2, 2, 1])), VERSE)
    assert {level: (centroid.tolist(), cut) for level, (centroid, cut) in found.items()} == {
        "L5": ([1, 4, 4], True),
        "L4": ([6, 6, 6], False),
    }


def stripes(size, axis, number=96):
    """A scan of voxels of `size` mm, whose neighbouring slices along an axis are 0 and 1000 by turns: nothing of it fits a coarser grid."""
    values = np.zeros((number,) * 3, np.float32)
    np.moveaxis(values, axis, 0)[::2] = 1000
    return Nifti(values, np.diag([size, size, size, 1.0]))


@pytest.mark.parametrize(("size", "axis", "most"), [(0.5, 0, 0.08), (0.5, 2, 0.08), (0.4, 1, 0.01)])
def test_stripes_too_fine_for_the_grid_become_their_mean(size, axis, most):
    scan = stripes(size, axis)
    field, centre = Field(16, 1.03), np.full(3, 47.5 * size)  # the steps go out of phase with the stripes
    volume = resample(scan, centre, field)
    assert abs(volume.mean() - 500) < 5
    assert volume.std() < most * 500
    matrix = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * 1.03 / size
    sampled = ndimage.affine_transform(
        scan.values, matrix, (centre - 7.5 * 1.03) / size, (16,) * 3, np.float32, 1, prefilter=False
    )
    assert sampled.std() > 0.3 * 500  # without the low-pass, a pattern that is not in the scan


def test_the_low_pass_widens_a_point_to_the_voxel_of_the_grid():
    """Variances add: a voxel's Gaussian of 0.5 mm and the filter's make one of 1 mm, full widths at half maximum."""
    sigmas = low_pass_sigmas(np.diag([0.5, 0.25, 2.0, 1]), 1.0) * [0.5, 0.25, 2.0] * np.sqrt(8 * np.log(2))
    np.testing.assert_allclose(np.hypot(sigmas, [0.5, 0.25, 1.0]), 1)
    turned = np.eye(4)
    turned[:3, :3] = rotation(0, 30) @ np.diag([0.5, 0.25, 2.0])
    np.testing.assert_allclose(low_pass_sigmas(turned, 1.0), low_pass_sigmas(np.diag([0.5, 0.25, 2.0, 1]), 1.0))


def test_voxels_as_coarse_as_the_grid_are_not_filtered(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("filtered")

    monkeypatch.setattr(ndimage, "gaussian_filter", refuse)
    scan = stripes(1.0, 0, number=16)
    np.testing.assert_array_equal(resample(scan, np.full(3, 7.5), Field(16)), scan.values.transpose(2, 1, 0))
    resample(scan, np.full(3, 7.5), Field(16, 0.5))
    resample(stripes(0.5, 0), np.full(3, 20.0), SMALL, order=0)  # masks are never averaged
    with pytest.raises(AssertionError, match="filtered"):
        resample(stripes(0.5, 0), np.full(3, 20.0), SMALL)


def test_only_the_part_that_is_sampled_is_filtered_and_with_the_same_result():
    affine = affine_of("anisotropic, oblique, flipped")
    affine[:3, :3] *= 0.3
    rng = np.random.default_rng(0)
    scan = Nifti(rng.random((90, 80, 70), dtype=np.float32), affine)
    centre = affine[:3, :3] @ [45, 30, 20] + affine[:3, 3]
    whole = ndimage.gaussian_filter(scan.values, low_pass_sigmas(affine, 1.0), mode="nearest")
    expected = ndimage.affine_transform(
        whole,
        np.linalg.inv(affine[:3, :3]) @ np.eye(3)[::-1],
        np.linalg.inv(affine[:3, :3]) @ (centre - 7.5 - affine[:3, 3]),
        (16,) * 3,
        order=1,
        prefilter=False,
    )
    np.testing.assert_allclose(resample(scan, centre, SMALL), expected, atol=1e-5)


def test_both_tables_name_the_fourteen_levels():
    for table in TABLES.values():
        assert sorted(table.values()) == sorted(LEVELS)
    assert [VERSE[n] for n in (11, 19, 20, 22, 24)] == ["T4", "T12", "L1", "L3", "L5"]
    assert [TOTALSEGMENTATOR[n] for n in (27, 31, 32, 33, 40)] == ["L5", "L1", "T12", "T11", "T4"]


def refused(scan, mask, folder, words, **more):
    with pytest.raises(VolumeError, match=words) as found:
        prepare_scan(scan, mask, "p01", folder / "out", **more)
    assert len(str(found.value).splitlines()) == 1
    assert not list((folder / "out").glob("*"))


def test_scans_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    scan, mask = write_scan(tmp_path, affine_of("canonical"))
    whole = scan.read_bytes()
    plain = gzip.decompress(whole)
    bad = tmp_path / "bad.nii"
    for data, words in [
        (plain[:-9], "Expected 172800 bytes"),
        (plain[:100], "no NIfTI"),
        (b"", "no NIfTI"),
        (b"volume" * 99, "no NIfTI"),
        (plain[:42] + b"\xff\x7f" * 3 + plain[48:], "more than it has"),  # 32767 voxels along each axis
        (plain[:40] + b"\x02\x00" + plain[42:], "three axes"),
        (plain[:252] + bytes(4) + plain[256:], "no affine"),  # qform_code and sform_code
        (plain[:280] + bytes(48) + plain[328:], "singular"),
    ]:
        bad.write_bytes(data)
        refused(bad, mask, tmp_path, words)
    zipped = tmp_path / "bad.nii.gz"
    for data in (whole[:-2000], whole[:50], whole[:2000] + bytes(500) + whole[2500:]):
        zipped.write_bytes(data)
        refused(zipped, mask, tmp_path, "bad.nii.gz")
    refused(tmp_path / "absent.nii", mask, tmp_path, "cannot be read|no NIfTI")
    refused(tmp_path, mask, tmp_path, "a folder")


def test_masks_that_do_not_fit_are_refused(tmp_path):
    scan, mask = write_scan(tmp_path, affine_of("canonical"))
    refused(scan, mask, tmp_path, "name the table", labels=TOTALSEGMENTATOR)
    far = affine_of("canonical")
    far[:3, 3] += 500
    nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(mask).dataobj), far), mask)
    refused(scan, mask, tmp_path, "no place in common")
    for labels in ({22: "S1"}, {0: "L3"}):
        with pytest.raises(UsageError):
            prepare_scan(scan, mask, "p01", tmp_path / "out", labels)


@pytest.mark.parametrize("wrong", [dict(side=0), dict(spacing=0.0), dict(window=(5.0, 5.0))])
def test_a_field_without_extent_is_refused(wrong):
    with pytest.raises(UsageError):
        Field(**wrong)


@pytest.mark.parametrize("case", REAL)
def test_real_scans_give_every_labelled_vertebra(real_volumes, tmp_path, case):
    scan, mask, table, levels = REAL[case]
    scan, mask = real_volumes / f"{scan}.nii.gz", real_volumes / f"{mask}.nii.gz"
    field = Field(side=64)
    paths = prepare_scan(scan, mask, case, tmp_path, table, field)
    assert sorted(p.name for p in paths) == sorted(f"vol_{case}_{level}.npy" for level in levels)
    numbers = read_nifti(mask, np.int32)
    centroids = find_centroids(numbers, table)
    for path in paths:
        volume = read_volume(path, 64)
        level = path.stem.rsplit("_", 1)[1]
        (number,) = (n for n, name in table.items() if name == level)
        vertebra = numbers._replace(values=(numbers.values == number).astype(np.float32))
        inside = resample(vertebra, centroids[level][0], field, order=0) > 0.5
        # bone is brighter than what lies round it, and the vertebra lies in the middle of its volume
        assert volume[inside].mean() > 2 * volume[~inside].mean()
        if inside.sum() > 0.98 * vertebra.values.sum() * abs(np.linalg.det(numbers.affine[:3, :3])):
            assert np.abs(np.argwhere(inside).mean(axis=0) - 31.5).max() < 1.0
