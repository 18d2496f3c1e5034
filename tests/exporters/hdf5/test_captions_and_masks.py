"""Captions and masks of a run: in its shards, in what is made from them, and where an earlier version wrote a shard."""

import shutil

import h5py
import numpy as np
import pytest
import relatent
from helpers import picture
from PIL import Image
from relatent.exporters.hdf5.reading import read_records
from relatent.exporters.hdf5.virtual import write_virtual
from relatent.factory.state.run_folder import RunFolder

CAPTIONS = {"a": "a cat", "b": "", "c": "naïve 写真"}


@pytest.fixture(scope="module", params=["one size", "several"])
def out(request, tmp_path_factory, small_vae):
    """A run of three pictures in two shards, of 32 × 32 pixels or the last of 48 × 32; the left half of each counts."""
    root = tmp_path_factory.mktemp("run")
    (root / "in").mkdir()
    (root / "masks").mkdir()
    for seed, (name, caption) in enumerate(CAPTIONS.items()):
        width = 48 if request.param == "several" and name == "c" else 32
        Image.fromarray(picture(32, width, seed)).save(root / "in" / f"{name}.png")
        if caption:
            (root / "in" / f"{name}.txt").write_text(caption, encoding="utf-8")
        mask = np.zeros((32, width), np.uint8)
        mask[:, :16] = 200 + seed
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    config = relatent.OptimizationConfig(iterations=1)
    options = dict(native=True) if request.param == "several" else dict(size=32)
    relatent.optimize_directory(
        root / "in", root / "out", small_vae, config=config, shard_size=2, masks=root / "masks", workers=0, **options
    )
    return root / "out"


def read(path):
    return {record.name: record for records in read_records(path) for record in records}


def test_they_are_in_shards_and_dataset(out):
    folder = RunFolder.open(out)
    assert len(folder.files()) == 2
    for records in (read(out / "dataset.h5"), {r.name: r for batch in folder.records() for r in batch}):
        assert {name: record.caption for name, record in records.items()} == CAPTIONS
        for seed, record in enumerate(records.values()):
            assert (record.mask.shape, record.mask.dtype) == (record.images["original"].shape[:2], np.uint8)
            assert (record.mask[:, :16] == 200 + seed).all()
            assert not record.mask[:, 16:].any()
    with h5py.File(out / "dataset.h5") as file:
        masks = [group["mask"] for group in (file["sizes"].values() if "sizes" in file else [file])]
        assert all(mask.is_virtual for mask in masks)
        assert not file["caption"].is_virtual


def test_a_shard_of_an_earlier_version_reads_as_without(out, tmp_path):
    copy = shutil.copytree(out, tmp_path / "out")
    folder = RunFolder.open(copy)
    first, second = folder.files()
    with h5py.File(first, "a") as file:
        del file["caption"], file["mask"]
    old = read(first)
    assert [record.caption for record in old.values()] == ["", ""]
    assert all(record.mask is None for record in old.values())
    write_virtual(copy / "dataset.h5", [first, second], folder.header)
    found = read(copy / "dataset.h5")
    assert {name: record.caption for name, record in found.items()} == {"a": "", "b": "", "c": CAPTIONS["c"]}
    if found["c"].mask.shape == (32, 32):  # in one column with those that have a mask
        assert (found["a"].mask == 255).all()
    else:
        assert found["a"].mask is None
    assert (found["c"].mask[:, :16] == 202).all()
    assert not found["c"].mask[:, 16:].any()


def test_without_masks_there_is_no_column(tmp_path, small_vae):
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    config = relatent.OptimizationConfig(iterations=1)
    relatent.optimize_directory(tmp_path / "a.png", tmp_path / "out", small_vae, config=config, size=32)
    with h5py.File(tmp_path / "out" / "dataset.h5") as file:
        assert "mask" not in file
        assert file["caption"].asstr()[:].tolist() == [""]
    assert read(tmp_path / "out" / "dataset.h5")["a"].mask is None
