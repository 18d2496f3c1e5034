"""Procedural vertebrae: the same again from a seed, fractured where the mask says, and named synthetic."""

import json

import numpy as np
import pytest
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.errors import VolumeError
from relatent.systems.anomaly.data.folds import make_folds
from relatent.systems.anomaly.data.names import LEVELS, parse_name
from relatent.systems.anomaly.data.procedural import make_vertebra, pink_noise, write_procedural
from relatent.systems.anomaly.data.vertebra_shape import FIELD_MM, VertebraShape
from relatent.systems.anomaly.data.volume_folder import add_to_index, read_folder, read_index


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("kind", ["normal", "wedge", "crack"])
def test_volumes_are_in_range_and_masks_mark_fractures_alone(side, kind):
    for level in ("T4", "L5"):
        made = make_vertebra(3, side, level, kind)
        assert made.volume.shape == made.mask.shape == (side,) * 3
        assert (made.volume.dtype, made.mask.dtype) == (np.float32, bool)
        assert made.volume.min() >= 0
        assert 0.25 < made.volume.max() <= 1
        assert made.label == (kind != "normal")
        assert (0.001 < made.mask.mean() < 0.06) if made.label else not made.mask.any()


def test_a_vertebra_of_full_size_can_be_made():
    assert make_vertebra(0, 128, "L3", "crack").mask.any()


@pytest.mark.parametrize("kind", ["wedge", "crack"])
def test_a_fracture_changes_what_its_mask_has_and_little_else(kind):
    for seed in range(4):
        normal, fractured = make_vertebra(seed, 48, "L2"), make_vertebra(seed, 48, "L2", kind)
        change = np.abs(fractured.volume - normal.volume)
        assert change[fractured.mask].mean() > 0.04
        assert change[~fractured.mask].mean() < 0.001
        # what is not marked differs by no more than the texture of compacted bone
        assert np.quantile(change[~fractured.mask], 0.999) < 0.05


def height_at(volume, shape, part):
    """mm of bone along z through the body, `part` of its depth in front of its middle."""
    x, y, _ = shape.places(volume.shape[0])
    column = (np.abs(x) < 0.2 * shape.width) & (np.abs(y - part * shape.depth) < 2)
    middle = np.abs(shape.places(volume.shape[0])[2]) < (shape.height + shape.disc) / 2
    bone = (volume > 0.06) & column & middle
    return bone.sum() / column[volume.shape[0] // 2].sum() * FIELD_MM / volume.shape[0]


def test_a_wedge_loses_height_at_the_front_and_none_at_the_back():
    for seed in range(4):
        shape = VertebraShape.draw(np.random.default_rng(seed), "L3")
        normal, wedge = make_vertebra(seed, 64, "L3").volume, make_vertebra(seed, 64, "L3", "wedge").volume
        front = height_at(wedge, shape, 0.3) / height_at(normal, shape, 0.3)
        back = height_at(wedge, shape, -0.35) / height_at(normal, shape, -0.35)
        assert front < 0.9
        assert back > 0.9
        assert front < back - 0.08


def test_a_crack_leaves_a_dark_gap_in_the_body():
    for seed in range(4):
        normal, crack = make_vertebra(seed, 64, "L3"), make_vertebra(seed, 64, "L3", "crack")
        shape = VertebraShape.draw(np.random.default_rng(seed), "L3")
        inside = (shape.body(*shape.places(64)) < -6) & crack.mask
        assert inside.sum() > 100
        assert crack.volume[inside].mean() < 0.75 * normal.volume[inside].mean()  # a gap of about two voxels


def test_the_shell_is_brighter_than_the_spongiosa_and_that_than_soft_tissue():
    shape = VertebraShape.draw(np.random.default_rng(5), "L4")
    volume = make_vertebra(5, 64, "L4").volume
    x, y, z = shape.places(64)
    distance = np.where(np.abs(z) < shape.height, shape.body(x, y, z), np.inf)
    clear = shape.arch(x, y, z) > 4
    shell, spongiosa = volume[clear & (np.abs(distance + 0.8) < 0.5)].mean(), volume[clear & (distance < -4)].mean()
    soft = volume[clear & (np.abs(z) < 5) & (distance > 4) & (distance < 50)].mean()
    assert shell > 2 * spongiosa
    assert spongiosa > 2.5 * soft
    assert soft > 0


def test_lower_levels_are_larger():
    sizes = [VertebraShape.draw(np.random.default_rng(1), level).width for level in LEVELS]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 1.5 * sizes[0]


def test_the_body_and_the_arch_keep_clear_of_the_canal():
    shape = VertebraShape.draw(np.random.default_rng(2), "L3")
    place = (np.zeros(9, np.float32), np.full(9, shape._canal, np.float32), np.linspace(-14, 14, 9, dtype=np.float32))
    assert (np.minimum(shape.body(*place), shape.arch(*place)) > 0.15 * shape.width).all()


@pytest.mark.parametrize("exponent", [1.0, 2.5])
def test_the_amplitude_of_the_noise_falls_as_it_says(exponent):
    side = 48
    noise = pink_noise(np.random.default_rng(0), side, exponent)
    assert (float(noise.mean()), float(noise.std())) == pytest.approx((0, 1), abs=1e-4)
    amplitude = np.abs(np.fft.fftn(noise))
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(side),) * 3, indexing="ij")))
    bands = [(low, amplitude[(frequency >= low) & (frequency < 1.2 * low)].mean()) for low in (0.05, 0.1, 0.2, 0.4)]
    slope = np.polyfit(*np.log(np.array(bands)).T, 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)


def test_the_same_seed_gives_the_same_vertebra_and_another_one_another():
    one = make_vertebra((1, 2), 24, "T9", "crack")
    again, other = make_vertebra((1, 2), 24, "T9", "crack"), make_vertebra((1, 3), 24, "T9", "crack")
    assert np.array_equal(one.volume, again.volume)
    assert np.array_equal(one.mask, again.mask)
    assert not np.array_equal(one.mask, other.mask)


def test_a_folder_is_the_same_again_and_says_that_it_is_synthetic(tmp_path):
    for name in ("a", "b"):
        paths = write_procedural(tmp_path / name, 12, seed=7, side=16, abnormal_fraction=0.25)
    index = read_index(tmp_path / "a")
    assert index["synthetic"] is True
    assert index["description"].startswith("synthetic")
    assert all(entry["synthetic"] for entry in index["volumes"].values())
    assert all("synthetic" in path.name for path in paths)
    assert sorted(entry["kind"] for entry in index["volumes"].values()) == ["crack", *["normal"] * 9, "wedge", "wedge"]
    names = sorted(str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(names) == 25  # 12 volumes, 12 masks, volumes.json
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_folder_reads_back_with_labels_and_masks_and_splits_into_folds(tmp_path):
    write_procedural(tmp_path, 30, seed=1, side=8, abnormal_fraction=0.3)
    volumes, failures = read_folder(tmp_path)
    assert failures == []
    for volume in volumes:
        mask = volume.read_mask()
        assert mask is not None
        assert volume.label is not None
        assert mask.any() <= volume.label
    by_patient = {}
    for volume in volumes:
        by_patient.setdefault(volume.patient, []).append(LEVELS.index(parse_name(volume.name).level))
    assert [len(levels) for levels in by_patient.values()] == [5] * 6
    assert all(max(levels) - min(levels) == 4 for levels in by_patient.values())
    split = make_folds(by_patient, seed=0, held_out=1).split(volumes, 1)
    assert {volume.label for volume in split.training} == {0}
    assert len(split.held_out) == 5


def test_wrong_arguments_and_folders_of_real_volumes_are_refused(tmp_path):
    for wrong in (dict(kind="burst"), dict(level="S1"), dict(side=4)):
        with pytest.raises(UsageError):
            make_vertebra(0, **wrong)
    for count, fraction in ((0, 0.5), (3, 1.5)):
        with pytest.raises(UsageError):
            write_procedural(tmp_path, count, 0, 8, fraction)
    add_to_index(tmp_path, {"vol_p01_L3.npy": {"label": 0}}, synthetic=False)
    with pytest.raises(VolumeError, match="real volumes"):
        write_procedural(tmp_path, 2, 0, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["volumes.json"]
    assert list(json.loads((tmp_path / "volumes.json").read_text())["volumes"]) == ["vol_p01_L3.npy"]
