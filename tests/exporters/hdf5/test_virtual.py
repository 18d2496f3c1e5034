"""dataset.h5 over shards reads as the file that holds everything does, wherever it is, and never without its shards."""

import dataclasses
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import relatent
import torch
from helpers import save_pictures
from relatent.engine.errors import DatasetError, UsageError
from relatent.exporters.formats.pt import check_memory, shard_bytes
from relatent.exporters.hdf5.columns import columns
from relatent.exporters.hdf5.exporter import HDF5Exporter
from relatent.exporters.hdf5.reading import read_records
from relatent.exporters.hdf5.shard_reader import ShardReader
from relatent.exporters.hdf5.virtual import write_virtual
from relatent.factory.export import export_run
from relatent.factory.state.run_folder import RunFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_vae):
    """A run of five pictures and their mirrors in three shards, with a picture that fails in between."""
    root = tmp_path_factory.mktemp("made")
    save_pictures(root / "in", 5)
    (root / "in" / "2a.png").write_text("no picture")
    config = relatent.OptimizationConfig(iterations=3)
    relatent.optimize_directory(
        root / "in", root / "out", small_vae, config=config, size=32, shard_size=2, flip=True, workers=0
    )
    return root / "out"


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made, tmp_path / "moved")


@pytest.fixture
def merged(out, tmp_path):
    return export_run(RunFolder.open(out), "hdf5", tmp_path / "merged.h5")


def same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name
        elif isinstance(value, dict):
            same(value, second[name])
        else:
            assert value == second[name], name


def test_both_kinds_hold_the_same_for_plain_h5py(out, merged, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where there is no shards/
    with h5py.File(out / "dataset.h5") as virtual, h5py.File(merged) as single:
        names = {column.name for column in columns(single)}
        assert {column.name for column in columns(virtual)} == names
        for name in names:
            first, second = virtual[name], single[name]
            assert (first.shape, first.dtype) == (second.shape, second.dtype), name
            equal_nan = first.dtype.kind == "f"
            assert np.array_equal(first[:], second[:], equal_nan=equal_nan), name
        assert {name for name in names if virtual[name].is_virtual} == {
            f"/{name}{suffix}" for name in ("initial_latents", "optimized_latents", "losses") for suffix in ("", "_flipped")
        } | {f"/images/{name}" for name in ("original", "initial", "optimized")}  # fmt: skip
        assert len(virtual["optimized_latents"].virtual_sources()) == 3
        assert virtual.attrs.keys() == single.attrs.keys()
        for name, value in single.attrs.items():
            assert np.array_equal(virtual.attrs[name], value), name
    assert (out / "dataset.h5").stat().st_size < merged.stat().st_size


@pytest.mark.parametrize("workers", [0, 2])
def test_both_kinds_read_the_same_through_our_reader(out, merged, monkeypatch, tmp_path, workers):
    monkeypatch.chdir(tmp_path)
    virtual = relatent.load_optimized_dataset(Path("moved") / "dataset.h5")
    single = relatent.load_optimized_dataset(merged)
    assert virtual.get_metadata() == single.get_metadata()
    assert len(virtual) == len(single) == 5
    for first, second in zip(virtual, single, strict=True):
        same(first, second)
    same(pickle.loads(pickle.dumps(virtual))[4], single[-1])
    options = {"multiprocessing_context": "spawn", "num_workers": workers} if workers else {}
    loaders = [dataset.create_dataloader(2, shuffle=False, **options) for dataset in (virtual, single)]
    for first, second in zip(*loaders, strict=True):
        same(first, second)


def test_hugging_face_datasets_reads_the_shards(out, merged, tmp_path):
    """It refuses virtual files (5.2: "unknown layout")."""
    datasets = pytest.importorskip("datasets")
    shards, single = (
        datasets.load_dataset("hdf5", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
        for path in (out / "shards" / "*.h5", merged)
    )
    assert shards["image_name"] == single["image_name"]
    assert shards["optimized_latents"] == single["optimized_latents"]


def test_a_missing_shard_is_refused_and_never_data(out, monkeypatch, tmp_path):
    lost = out / "shards" / "shard-000001.h5"
    lost.rename(tmp_path / "lost.h5")
    with pytest.raises(DatasetError, match=r"shard-000001\.h5, which is missing.*--single-file"):
        relatent.load_optimized_dataset(out / "dataset.h5")
    with h5py.File(out / "dataset.h5") as file:  # plain HDF5 reads on
        found = file["optimized_latents"][:]
        assert np.isfinite(found).all((1, 2, 3)).tolist() == [True, True, False, True, True]
        assert np.isnan(file["losses"][2]).all()
    lost.write_bytes((tmp_path / "lost.h5").read_bytes()[:5000])
    with pytest.raises(DatasetError, match=r"shard that is broken: .*shard-000001\.h5 cannot be opened.*--single-file"):
        relatent.load_optimized_dataset(out / "dataset.h5")
    shutil.copy(out / "shards" / "shard-000000.h5", lost)
    with pytest.raises(DatasetError, match=r"out of date: .*shard-000001\.h5 holds other pictures now"):
        relatent.load_optimized_dataset(out / "dataset.h5")
    # HDF5 also looks in the current folder; we do not
    lost.unlink()
    shutil.copytree(out / "shards", tmp_path / "here" / "shards")
    (tmp_path / "lost.h5").rename(tmp_path / "here" / "shards" / "shard-000001.h5")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DatasetError, match=r"which is missing"):
        relatent.load_optimized_dataset(out / "dataset.h5")


def test_a_hostile_file_cannot_point_elsewhere(out, tmp_path):
    layout = h5py.VirtualLayout((5, 4, 4, 4), np.float32)
    layout[:] = h5py.VirtualSource("../secret.h5", "x", (5, 4, 4, 4))
    with h5py.File(out / "dataset.h5", "r+") as file:
        del file["optimized_latents"]
        file.create_virtual_dataset("optimized_latents", layout)
    with pytest.raises(DatasetError, match="outside its folder"):
        relatent.load_optimized_dataset(out / "dataset.h5")


def test_settings_and_destinations_choose_the_kind(out, tmp_path):
    def is_virtual(path):
        with h5py.File(path) as file:
            return file["optimized_latents"].is_virtual

    folder = RunFolder.open(out)
    assert is_virtual(out / "dataset.h5")
    assert not is_virtual(export_run(folder, "hdf5", single_file=True))
    assert is_virtual(export_run(folder, "hdf5"))
    assert is_virtual(export_run(folder, "hdf5", out / "dataset.h5"))
    assert not is_virtual(export_run(folder, "hdf5", out / "copy.h5"))
    assert not is_virtual(export_run(folder, "hdf5", tmp_path / "copy.h5", single_file=False))
    folder.update(settings=dataclasses.replace(folder.record.settings, single_file=True))
    assert not is_virtual(export_run(folder, "hdf5"))
    assert is_virtual(export_run(folder, "hdf5", single_file=False))


def test_exports_are_in_the_ledger(out, tmp_path):
    folder = RunFolder.open(out)
    export_run(folder, "pt", tmp_path / "a.pt")
    lines = folder.ledger.exports()
    assert set(lines) >= {"dataset.h5", str(tmp_path / "a.pt")}
    assert lines["dataset.h5"]["bytes"] == (out / "dataset.h5").stat().st_size
    assert lines["dataset.h5"]["format"] == "hdf5"
    command = ["sha256sum", "-c", "-"]
    text = f"{lines[str(tmp_path / 'a.pt')]['sha256']}  {tmp_path / 'a.pt'}\n"
    assert subprocess.run(command, input=text, text=True, capture_output=True).returncode == 0


LIMITED = """
import resource, sys, torch, relatent
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[3])))
dataset = relatent.load_optimized_dataset(sys.argv[1])
assert len([dataset[i] for i in (*range(len(dataset)), *range(len(dataset)))]) == 2 * len(dataset)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("soft", "hard", "expected"), [(64, 4096, 188), (64, 100, 100)])
def test_more_shards_than_files_may_be_open(tmp_path, made, soft, hard, expected):
    """The soft limit is raised; where the hard one is too low, shards are closed and opened again."""
    pytest.importorskip("resource")
    folder = RunFolder.open(made)
    record = next(read_records(folder.files()[0]))[0]
    (tmp_path / "shards").mkdir()
    paths = [tmp_path / "shards" / f"{number:03d}.h5" for number in range(60)]
    for path in paths:
        with HDF5Exporter(path, folder.header) as exporter:
            exporter.write([record])
    write_virtual(tmp_path / "dataset.h5", paths, folder.header)
    command = [sys.executable, "-c", LIMITED, tmp_path / "dataset.h5", soft, hard]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == expected


def test_an_opened_reader_keeps_few_files_open_where_it_must(out, monkeypatch):
    monkeypatch.setattr("relatent.exporters.hdf5.shard_reader.allow_open_files", lambda count: 1)
    with h5py.File(out / "dataset.h5") as file:
        reader = ShardReader(out / "dataset.h5", file)
        for index in (0, 4, 2, 0):
            assert np.array_equal(reader.row("optimized_latents", index), file["optimized_latents"][index])
            assert len(reader._open) == 1


def test_pt_is_refused_where_it_does_not_fit(out, made, small_vae, tmp_path, monkeypatch):
    folder = RunFolder.open(out)
    content = 5 * (2 * (2 * 64 + 3 + 11) * 4 + 2 * 2 * 4 + 2 * 4 + 32 * 32 * 3)
    check_memory(shard_bytes(folder.files()), 2 * content)
    with pytest.raises(UsageError, match=r"pt holds everything in memory.*use hdf5"):
        check_memory(shard_bytes(folder.files()), 2 * content - 1)
    monkeypatch.setattr("relatent.exporters.formats.pt.available_memory", lambda: 4 * content - 2)
    with pytest.raises(UsageError, match="use hdf5"):
        export_run(folder, "pt")
    with pytest.raises(UsageError, match="use hdf5"):  # before any work
        relatent.optimize_directory(
            made.parent / "in", tmp_path / "other", small_vae, size=32, flip=True, formats=["pt"]
        )
    assert not (tmp_path / "other").exists()
    assert not list(out.glob("*.pt"))
    monkeypatch.setattr("relatent.exporters.formats.pt.available_memory", lambda: 4 * content)
    export_run(folder, "pt")
    monkeypatch.setattr("relatent.exporters.formats.pt.available_memory", lambda: None)
    export_run(folder, "pt")
