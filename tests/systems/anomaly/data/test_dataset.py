"""The data set: folders, archives, labels; the epoch that its workers see."""

import io
import zipfile

import numpy as np
import pytest
import torch
from relatent.systems.anomaly.data.augmentation import Augmentation
from relatent.systems.anomaly.data.dataset import VolumeDataset
from relatent.systems.anomaly.data.errors import FoldsError, VolumeError
from relatent.systems.anomaly.data.volume import Volume
from relatent.systems.anomaly.data.volume_archive import read_archive
from relatent.systems.anomaly.data.volume_folder import add_to_index, read_folder, read_index


@pytest.fixture
def folder(tmp_path):
    for i, level in enumerate(("L1", "L2", "L3")):
        np.save(tmp_path / f"vol_p{i}_{level}.npy", np.full((6, 8, 8), i / 4, np.float32))
    add_to_index(tmp_path, {"vol_p0_L1.npy": {"label": 0}, "vol_p1_L2.npy": {"label": 1}}, synthetic=False)
    return tmp_path


def test_a_folder_gives_samples_of_one_size_with_their_labels(folder):
    volumes, failures = read_folder(folder)
    samples = list(VolumeDataset(volumes, 8))
    assert failures == []
    assert [sample["label"] for sample in samples] == [0, 1, -1]
    assert [sample["name"] for sample in samples] == ["vol_p0_L1.npy", "vol_p1_L2.npy", "vol_p2_L3.npy"]
    assert [sample["volume"].shape for sample in samples] == [(1, 8, 8, 8)] * 3
    assert [float(sample["volume"].max()) for sample in samples] == [0, 0.25, 0.5]


def test_names_that_are_none_are_listed_and_the_rest_is_read(folder):
    np.save(folder / "other.npy", np.zeros((2, 2, 2)))
    volumes, failures = read_folder(folder)
    assert len(volumes) == 3
    assert len(failures) == 1
    assert "other.npy" in failures[0]


def test_abnormal_and_unlabelled_volumes_are_refused_in_training(folder):
    volumes, _ = read_folder(folder)
    assert len(VolumeDataset(volumes[:1], 8, training=True)) == 1
    for wrong in (volumes[1:2], volumes[2:]):
        with pytest.raises(FoldsError, match="must not be in training"):
            VolumeDataset(wrong, 8, training=True)


def test_a_damaged_index_is_refused_in_one_line(folder):
    for text in ("", "[]", '{"schema": 9, "volumes": {}}', '{"schema": 1, "volumes": []}',
                 '{"schema": 1, "volumes": {"a": {"label": 2}}}', '{"schema": 1, "volumes": {"a": {"label": true}}}',
                 '{"schema": 1, "volumes": {"a": 0}}', "[" * 100_000):  # fmt: skip
        (folder / "volumes.json").write_text(text)
        with pytest.raises(VolumeError, match=r"volumes\.json") as found:
            read_folder(folder)
        assert len(str(found.value).splitlines()) == 1
    with pytest.raises(VolumeError, match="no folder"):
        read_folder(folder / "absent")


def test_synthetic_and_real_volumes_do_not_mix(folder):
    with pytest.raises(VolumeError, match="real volumes"):
        add_to_index(folder, {"vol_s_L1.npy": {"label": 0}}, synthetic=True)
    assert len(read_index(folder)["volumes"]) == 2


def test_the_augmentation_follows_seed_and_epoch(folder):
    volumes, _ = read_folder(folder)
    change = Augmentation(probability=1.0)

    def samples(epoch, seed=42, **loading):
        data = VolumeDataset(volumes, 8, augmentation=change, seed=seed)
        data.set_epoch(epoch)
        loader = torch.utils.data.DataLoader(data, batch_size=3, **loading)
        return next(iter(loader))["volume"]

    assert torch.equal(samples(1), samples(1))
    assert not torch.equal(samples(1), samples(2))
    assert not torch.equal(samples(1), samples(1, seed=43))
    assert torch.equal(samples(1), samples(1, num_workers=1))


def test_workers_that_outlive_an_epoch_see_the_next_one(folder):
    volumes, _ = read_folder(folder)
    data = VolumeDataset(volumes, 8, augmentation=Augmentation(probability=1.0))
    loader = torch.utils.data.DataLoader(data, batch_size=3, num_workers=1, persistent_workers=True)
    first = next(iter(loader))["volume"]
    data.set_epoch(1)
    assert not torch.equal(first, next(iter(loader))["volume"])


def archive(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def test_an_archive_gives_its_split(tmp_path):
    images = np.random.default_rng(0).integers(0, 2, (3, 4, 5, 6), np.uint8)
    path = archive(tmp_path / "a.npz", val_images=images, val_labels=np.array([[0], [1], [2]], np.uint8))
    volumes = read_archive(path, "val")
    assert [(v.name, v.label) for v in volumes] == [("a-val-00000", 0), ("a-val-00001", 1), ("a-val-00002", 1)]
    assert len({v.patient for v in volumes}) == 3
    np.testing.assert_array_equal(volumes[2].read(), images[2])
    assert VolumeDataset(volumes, 6)[1]["volume"].shape == (1, 6, 6, 6)
    with pytest.raises(VolumeError, match="no split 'test'"):
        read_archive(path, "test")


def test_greys_and_shapes_of_an_archive_lie_between_0_and_1(tmp_path, caplog):
    greys = np.arange(256, dtype=np.uint8).reshape(1, 4, 8, 8)
    for images in (greys, 255 * (greys > 99).astype(np.uint8)):
        path = archive(tmp_path / "a.npz", test_images=images, test_labels=np.array([0]))
        np.testing.assert_allclose(read_archive(path, "test")[0].read(), images[0] / 255, atol=3e-4)
    assert caplog.records == []  # nothing is clipped, and no warning given


def lying(shape, data=bytes(8)):
    """A .npy member that states a shape of its own."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return member.getvalue() + data


def test_archives_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    labels = np.zeros((2, 1), np.uint8)
    images = np.random.default_rng(0).integers(0, 255, (2, 9, 9, 9), np.uint8)
    whole = archive(tmp_path / "whole.npz", val_images=images, val_labels=labels).read_bytes()
    archive(tmp_path / "objects.npz", val_images=np.array([None, {}]), val_labels=labels)
    archive(tmp_path / "counts.npz", val_images=images[:1], val_labels=labels)
    archive(tmp_path / "rank.npz", val_images=images[0], val_labels=labels)
    archive(tmp_path / "floats.npz", val_images=images.astype(float), val_labels=labels)
    for name, shape in {
        "many": (1, 1 << 12, 1 << 12, 1 << 8),
        "more": (1, 2, 2, 3),
        "fewer": (1, 2, 2, 1),
        "wild": (1 << 70, 2, 2, 2),
    }.items():
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as file:
            file.writestr("val_images.npy", lying(shape))
    damaged = bytearray(whole)
    damaged[400:420] = bytes(20)
    for name, data in {"cut": whole[:-30], "empty": b"", "text": b"volumes", "damaged": bytes(damaged)}.items():
        (tmp_path / f"{name}.npz").write_bytes(data)
    for path in [*sorted(tmp_path.glob("*.npz")), tmp_path, tmp_path / "absent.npz"]:
        if path.stem != "whole":
            with pytest.raises(VolumeError) as found:
                read_archive(path, "val")
            assert str(path) in str(found.value)
            assert ("states" in str(found.value)) == (path.stem in ("many", "more", "fewer", "wild", "objects"))
            assert len(str(found.value).splitlines()) == 1


def test_real_shapes_are_read(real_volumes):
    volumes = read_archive(real_volumes / "medmnist3d" / "adrenalmnist3d_64_train_val.npz", "val")
    assert (len(volumes), sum(v.label for v in volumes)) == (98, 22)
    volume = volumes[0].read(64)
    assert (volume.shape, volume.dtype, set(np.unique(volume))) == ((64, 64, 64), np.float32, {0.0, 1.0})


def test_a_volume_without_a_mask_has_none(folder):
    volumes, _ = read_folder(folder)
    assert volumes[0].read_mask() is None
    assert isinstance(volumes[0], Volume)
