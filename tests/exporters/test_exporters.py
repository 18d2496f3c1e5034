"""Our own formats, from one run: what is read back is what was found, and decodes to the recorded quality."""

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import relatent
import torch
from PIL import Image
from relatent.engine.errors import DatasetError, UsageError
from relatent.engine.losses.metrics import from_uint8, psnr
from relatent.engine.records import METRICS
from relatent.exporters.base.exporter import FORMATS, make_exporter
from relatent.exporters.hdf5.reading import read_records
from relatent.factory.export import export_run
from relatent.factory.state.run_folder import RunFolder

CONFIG = relatent.OptimizationConfig(iterations=6)
CORE = ["hdf5", "png", "pt"]  # our own; those of trainers and hubs are in test_trainer_formats.py


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_vae):
    """A run over three splits, in every format."""
    from helpers import picture

    root = tmp_path_factory.mktemp("finished")
    for seed, name in enumerate(
        ("train/first.png", "train/second.png", "val/naïve 写真.png", "test/third.png", "test/fourth.png")
    ):
        path = root / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed=seed)).save(path)
    record = relatent.optimize_directory(
        root / "in", root / "out", small_vae, config=CONFIG, formats=CORE, size=32, batch_size=2
    )
    assert record["counts"]["done"] == 5
    return RunFolder.open(root / "out")


@pytest.fixture(scope="module")
def records(finished):
    return [record for batch in finished.records() for record in batch]


def read_hdf5(path):
    with h5py.File(path) as file:
        return {
            name: (
                file["initial_latents"][i],
                file["optimized_latents"][i],
                file["metrics/final_psnr"][i],
                file["images/original"][i],
            )
            for i, name in enumerate(file["image_name"].asstr())
        }


def read_pt(path):
    content = torch.load(path, weights_only=True)
    columns = (
        content["image_name"],
        content["initial_latents"].numpy(),
        content["optimized_latents"].numpy(),
        content["metrics"]["final_psnr"].numpy(),
        content["original_images"].numpy(),
    )
    return {name: values for name, *values in zip(*columns, strict=True)}


def read_png(path):
    """PNGs hold pictures, not latents: the optimised picture stands for what the latents decode to."""
    return {
        file.parent.name: (
            None,
            np.asarray(Image.open(file.parent / "optimized.png")),
            json.loads(file.read_text())["final_psnr_8bit"],
            np.asarray(Image.open(file.parent / "original.png")),
        )
        for file in Path(path).glob("*/*/metrics.json")
    }


READERS = {"hdf5": read_hdf5, "pt": read_pt, "png": read_png}


@pytest.mark.parametrize("name", CORE)
def test_round_trip(finished, records, small_vae, name):
    found = READERS[name](finished.record.outputs[name])
    assert set(found) == {record.name for record in records}
    for record in records:
        initial, optimized, quality, original = found[record.name]
        assert np.array_equal(original, record.images["original"])
        target = from_uint8(torch.from_numpy(original.copy())).permute(2, 0, 1).unsqueeze(0)
        if initial is None:
            image = from_uint8(torch.from_numpy(optimized.copy())).permute(2, 0, 1).unsqueeze(0)
        else:
            assert np.array_equal(initial, record.initial_latents)
            assert np.array_equal(optimized, record.optimized_latents)
            image = small_vae.decode(torch.from_numpy(optimized).unsqueeze(0))
        assert psnr(image, target).item() == pytest.approx(float(quality), abs=0.05)


@pytest.mark.parametrize("virtual", [True, False])
def test_hdf5_is_as_specified(finished, records, tmp_path, virtual):
    path = finished.record.outputs["hdf5"] if virtual else export_run(finished, "hdf5", tmp_path / "merged.h5")
    with h5py.File(path) as file:
        n = len(records)
        shapes = {
            "image_name": (n,), "split": (n,), "source_path": (n,), "original_size": (n, 2), "initial_latents": (n, 4, 4, 4),
            "optimized_latents": (n, 4, 4, 4), "losses": (n, 6), "iterations": (n,), "convergence_iteration": (n,),
            "images/original": (n, 32, 32, 3), "images/initial": (n, 32, 32, 3), "images/optimized": (n, 32, 32, 3),
        }  # fmt: skip
        for name, shape in (shapes | {f"metrics/{metric}": (n,) for metric in METRICS}).items():
            assert file[name].shape == shape, name
        for name in ("initial_latents", "optimized_latents"):
            assert file[name].is_virtual == virtual
            assert virtual or file[name].chunks == (1, 4, 4, 4)
            assert virtual or file[name].fletcher32
            assert file[name].dtype == np.float32
        assert file["original_size"].dtype == file["iterations"].dtype == np.int32
        assert file["original_size"][0].tolist() == [48, 64]
        assert file["images/original"].dtype == np.uint8
        assert h5py.check_string_dtype(file["image_name"].dtype).encoding == "utf-8"
        assert sorted(set(file["split"].asstr())) == ["test", "train", "val"]
        assert file["source_path"].asstr()[0] == "train/first.png"
        attributes = dict(file.attrs)
        assert attributes["schema"] == "relatent/1"
        assert not attributes["latents_scaled"]
        assert attributes["scaling_factor"] == 0.3
        assert attributes["shift_factor"] == 0.0
        assert attributes["value_range"] == "[-1, 1]"
        assert json.loads(attributes["vae"])["weights_sha256"] == finished.record.vae["weights_sha256"]
        assert json.loads(attributes["config"]) == CONFIG.to_dict()
        assert {"created", "relatent_version"} <= set(attributes)
        latents = file["optimized_latents"][:].astype(np.float64)
        np.testing.assert_allclose(attributes["latents_mean"], latents.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(attributes["latents_std"], latents.std((0, 2, 3)), rtol=1e-5)


def test_without_flip_nothing_of_it_is_stored(finished):
    for path in (finished.record.outputs["hdf5"], *finished.out.glob("shards/*.h5")):
        with h5py.File(path) as file:
            assert set(file) == {
                "image_name", "split", "source_path", "source_sha256", "original_size", "conversions", "caption",
                "initial_latents", "optimized_latents", "losses", "iterations", "convergence_iteration", "stop_reason", "metrics", "images",
            }  # fmt: skip
            assert set(file["metrics"]) == set(METRICS)
    content = torch.load(finished.record.outputs["pt"], weights_only=True)
    assert not [name for name in (*content, *content["metadata"]) if "flipped" in name]
    assert "statistics_flipped" not in finished.record.to_json()
    folder = Path(finished.record.outputs["png"])
    assert "mirrored" not in (folder / "README.md").read_text()
    assert "flipped" not in json.loads((folder / "train" / "first" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def mirrored(finished, tmp_path_factory, small_vae):
    """The same run with --flip, in every format."""
    out = tmp_path_factory.mktemp("mirrored") / "out"
    relatent.optimize_directory(
        finished.out.parent / "in",
        out,
        small_vae,
        config=CONFIG,
        formats=CORE,
        size=32,
        batch_size=3,
        flip=True,
    )
    return RunFolder.open(out)


def test_flipped_outcomes_are_in_the_hdf5_and_read_back(mirrored):
    with h5py.File(mirrored.record.outputs["hdf5"]) as file:
        names = ("initial_latents", "optimized_latents", "losses", "iterations", "convergence_iteration", "stop_reason")
        for name in (*names, *(f"metrics/{metric}" for metric in METRICS)):
            flipped = file[name.replace("metrics/", "metrics_flipped/") if "/" in name else f"{name}_flipped"]
            assert (flipped.shape, flipped.dtype, flipped.chunks) == (
                file[name].shape,
                file[name].dtype,
                file[name].chunks,
            )
        assert all(len(item) == 5 for item in file.values() if isinstance(item, h5py.Dataset))
        assert set(file["images"]) == {"original", "initial", "optimized"}
    shards = [record for batch in mirrored.records() for record in batch]
    again = [record for batch in read_records(Path(mirrored.record.outputs["hdf5"])) for record in batch]
    assert len(shards) == len(again) == 5
    for one, two in zip(shards, again, strict=True):
        first, second = dict(vars(one.views["flipped"])), dict(vars(two.views["flipped"]))
        for name in ("initial_latents", "optimized_latents"):
            assert np.array_equal(first.pop(name), second.pop(name))
        assert first == second
        assert not np.array_equal(one.views["flipped"].optimized_latents, one.optimized_latents)


def test_flipped_outcomes_are_in_every_other_format(mirrored):
    records = [record for batch in mirrored.records() for record in batch]
    content = torch.load(mirrored.record.outputs["pt"], weights_only=True)
    statistics = mirrored.record.view_statistics["flipped"]
    assert content["metadata"]["processing_statistics_flipped"]["final_ssim"] == pytest.approx(statistics["final_ssim"])
    for i, record in enumerate(records):
        for name in ("initial_latents", "optimized_latents"):
            assert np.array_equal(content[f"{name}_flipped"][i].numpy(), getattr(record.views["flipped"], name))
        assert content["losses_flipped"][i] == record.views["flipped"].losses
        assert content["convergence_iteration_flipped"][i] == record.views["flipped"].convergence_iteration
        for name, value in record.views["flipped"].metrics.items():
            assert content["metrics_flipped"][name][i].item() == pytest.approx(value)
    folder = Path(mirrored.record.outputs["png"])
    facts = json.loads((folder / records[0].split / records[0].name / "metrics.json").read_text())
    assert facts["flipped"] == {
        **records[0].views["flipped"].metrics, "iterations": 6, "convergence_iteration": None, "stop_reason": "iterations",
    }  # fmt: skip
    assert f"a mean gain of {statistics['psnr_improvement']['mean']:.3f} dB" in (folder / "README.md").read_text()
    assert len(list((folder / records[0].split / records[0].name).iterdir())) == 6


def test_short_histories_are_nan_past_their_end(tmp_path, photographs, small_vae):
    config = relatent.OptimizationConfig(
        iterations=20, convergence_threshold=0.9, convergence_window=2, precision="fp32"
    )
    record = relatent.optimize_directory(photographs, tmp_path / "out", small_vae, config=config, size=32)
    with h5py.File(record["outputs"]["hdf5"]) as file:
        assert file["losses"].shape == (4, 20)
        assert np.isfinite(file["losses"][:, :3]).all()
        assert np.isnan(file["losses"][:, 3:]).all()
        assert file["iterations"][:].tolist() == [3] * 4
        assert file["convergence_iteration"][:].tolist() == [2] * 4


def test_pt_is_as_specified(finished):
    content = torch.load(finished.record.outputs["pt"], weights_only=True)
    metadata = content["metadata"]
    assert metadata["total_samples"] == 5
    assert metadata["optimization_config"] == CONFIG.to_dict()
    assert metadata["latents_scaled"] is False
    assert metadata["creation_timestamp"] == finished.record.created
    statistics = metadata["processing_statistics"]["psnr_improvement"]
    assert statistics["mean"] == pytest.approx(content["metrics"]["psnr_improvement"].double().mean().item(), abs=1e-5)


def test_png_is_as_specified(finished, records):
    folder = Path(finished.record.outputs["png"])
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "statistics.json", "overview.png", "loss_curves.png", "latents.png", "train", "val", "test",
        "relatent.json", "SHA256SUMS", "sources.jsonl",
    }  # fmt: skip
    statistics = json.loads((folder / "statistics.json").read_text())
    gains = [record.metrics["psnr_improvement"] for record in records]
    found = statistics["psnr_improvement"]
    assert set(found) == {"mean", "std", "min", "max", "median"}
    assert found["mean"] == pytest.approx(np.mean(gains), abs=1e-5)
    assert found["median"] == pytest.approx(np.median(gains), abs=1e-5)
    one = folder / "val" / "naïve 写真"
    assert {path.name for path in one.iterdir()} == {
        "original.png", "initial.png", "optimized.png", "difference.png", "comparison.png", "metrics.json",
    }  # fmt: skip
    original, optimized = (
        np.asarray(Image.open(one / f"{name}.png")).astype(int) for name in ("original", "optimized")
    )
    difference = np.asarray(Image.open(one / "difference.png")).astype(int)
    assert np.array_equal(difference, np.minimum(abs(original - optimized) * 5, 255))
    assert json.loads((one / "metrics.json").read_text())["source_path"] == "val/naïve 写真.png"
    for name in ("overview.png", "loss_curves.png"):
        assert len(np.unique(np.asarray(Image.open(folder / name)))) > 30, f"{name} is blank"


@pytest.mark.parametrize("name", CORE)
def test_export_again_equals_the_first(finished, tmp_path, name):
    path = export_run(finished, name, tmp_path / Path(finished.record.outputs[name]).name)
    first, again = READERS[name](finished.record.outputs[name]), READERS[name](path)
    assert set(first) == set(again)
    for key in first:
        for a, b in zip(first[key], again[key], strict=True):
            assert np.array_equal(a, b)


def write_all(exporter, records):
    with exporter:
        exporter.write(records)


@pytest.mark.parametrize("name", CORE)
def test_a_failed_export_leaves_the_old_one_and_no_litter(finished, records, tmp_path, name):
    target = tmp_path / FORMATS[name][2]
    export_run(finished, name, target)
    before = sorted((path.relative_to(tmp_path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    # the third record lacks what the format needs: the write fails in the middle
    torn = dataclasses.replace(records[2], metrics={}, images={"original": records[2].images["original"]})
    with pytest.raises(KeyError):
        write_all(make_exporter(name, tmp_path, finished.header, target), [*records[:2], torn])
    assert sorted((path.relative_to(tmp_path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    with pytest.raises(UsageError, match="nothing to write"), make_exporter(name, tmp_path, finished.header, target):
        pass
    assert sorted((path.relative_to(tmp_path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    export_run(finished, name, target)  # and a good one replaces it
    assert len(READERS[name](target)) == 5


def test_png_needs_pictures(photographs, tmp_path, small_vae):
    config = relatent.OptimizationConfig(iterations=1)
    relatent.optimize_directory(photographs, tmp_path / "out", small_vae, config=config, size=32, keep_images=False)
    folder = RunFolder.open(tmp_path / "out")
    with pytest.raises(UsageError, match="--no-images"):
        export_run(folder, "png")
    with h5py.File(tmp_path / "out" / "dataset.h5") as file:
        assert "images" not in file
    export_run(folder, "pt")
    assert "original_image" not in relatent.load_optimized_dataset(tmp_path / "out" / "dataset.pt")[0]


def test_a_flipped_bit_in_a_shard_is_found(finished, tmp_path):
    shard = next(finished.out.glob("shards/*.h5"))
    with h5py.File(shard) as file:
        offset = file["optimized_latents"].id.get_chunk_info(0).byte_offset
    damaged = tmp_path / "shard.h5"
    content = bytearray(shard.read_bytes())
    content[offset + 5] ^= 16
    damaged.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        list(read_records(damaged))


def test_hugging_face_datasets_opens_the_hdf5(finished, mirrored, tmp_path):
    datasets = pytest.importorskip("datasets")
    for folder in (finished, mirrored):
        path = export_run(folder, "hdf5", tmp_path / f"{folder.out.parent.name}.h5")  # it refuses virtual ones
        loaded = datasets.load_dataset("hdf5", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
        first = next(folder.records())[0]
        assert len(loaded) == 5
        row = loaded.with_format("numpy")[0]
        assert row["image_name"] == first.name
        np.testing.assert_array_equal(row["optimized_latents"], first.optimized_latents)
        assert ("optimized_latents_flipped" in row) == ("flipped" in first.views)
    np.testing.assert_array_equal(row["optimized_latents_flipped"], first.views["flipped"].optimized_latents)
    assert row["metrics_flipped"]["final_psnr"] == pytest.approx(first.views["flipped"].metrics["final_psnr"])
