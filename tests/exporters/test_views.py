"""A third view, registered for these tests alone, from the batcher through files and back."""

import json

import h5py
import numpy as np
import pytest
import relatent
import torch
from PIL import Image
from relatent.engine.inputs.masks import Masks
from relatent.engine.inputs.sources import discover
from relatent.engine.inputs.views import VIEWS, View
from relatent.engine.losses.metrics import psnr
from relatent.engine.optimization.batcher import Batcher
from relatent.engine.records import METRICS
from relatent.exporters.base.exporter import exporter_class
from relatent.exporters.base.header import Header
from relatent.exporters.hdf5.exporter import HDF5Exporter
from relatent.exporters.hdf5.reading import read_records
from relatent.exporters.hdf5.virtual import write_virtual

CONFIG = relatent.OptimizationConfig(iterations=6, precision="fp32", target_gain=0.3, checkpoint_interval=2)
NAMES = ("plain", "flipped", "rotated")


@pytest.fixture(autouse=True)
def rotated(monkeypatch):
    """The picture turned by 180°."""
    view = View("rotated", "_rotated", lambda pixels: pixels.rot90(2, (-3, -2)))
    monkeypatch.setitem(VIEWS, "rotated", view)
    return view


def optimise(folder, vae, batch_size=2, **options):
    batcher = Batcher(vae, CONFIG, 32, batch_size=batch_size, views=NAMES, **options)
    pictures = [batcher.reader.load(source) for source in discover(folder)]
    return [record for records in batcher.batches(pictures, len(pictures)) for record in records], pictures


def header(vae):
    return Header(
        "2026-01-01T00:00:00Z",
        "0",
        vae.identity(),
        CONFIG.to_dict(),
        classes=("unlabelled",),
        splits=("train", "test", "all"),
    )


def same(one, two):
    for name in ("initial_latents", "optimized_latents"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert np.allclose(one.losses, two.losses, rtol=1e-6)
    assert (one.stop_reason, one.convergence_iteration) == (two.stop_reason, two.convergence_iteration)
    assert one.metrics == pytest.approx(two.metrics, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_each_view_is_a_target_of_its_own(photographs, small_vae, rotated, batch_size):
    records, pictures = optimise(photographs, small_vae, batch_size)
    assert [record.name for record in records] == [picture.source.name for picture in pictures]
    for record, picture in zip(records, pictures, strict=True):
        assert set(record.views) == {"flipped", "rotated"}
        assert [view.name for view, _ in record.all_views()] == list(NAMES)
        for view, outcome in record.all_views():
            target = view.apply_to_planes(picture.image.tensor())
            torch.testing.assert_close(
                torch.from_numpy(outcome.initial_latents)[None], small_vae.encode(target), rtol=1e-4, atol=1e-5
            )
            decoded = small_vae.decode(torch.from_numpy(outcome.optimized_latents)[None])
            assert psnr(decoded, target).item() == pytest.approx(outcome.metrics["final_psnr"], abs=1e-3)
        upside_down = picture.image.tensor().flip(-1).flip(-2)
        assert torch.equal(rotated.apply_to_planes(picture.image.tensor()), upside_down)


def test_weights_are_seen_as_the_pixels_are(photographs, tmp_path, small_vae, rotated):
    """The mask counts one corner, which in the rotated view is the opposite one."""
    for source in discover(photographs):
        path = (tmp_path / "masks" / source.relative).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((48, 64), np.uint8)
        mask[:20, :30] = 255
        Image.fromarray(mask).save(path)
    records, pictures = optimise(photographs, small_vae, masks=Masks(tmp_path / "masks"))
    for record, picture in zip(records, pictures, strict=True):
        decoded = small_vae.decode(torch.from_numpy(record.views["rotated"].optimized_latents)[None])
        target, weight = (rotated.apply_to_planes(x) for x in (picture.image.tensor(), picture.image.weight()))
        recorded = record.views["rotated"].metrics["final_psnr"]
        assert psnr(decoded, target, weight).item() == pytest.approx(recorded, abs=1e-3)
        assert psnr(decoded, target, picture.image.weight()).item() != pytest.approx(recorded, abs=1e-3)


def test_hdf5_holds_all_views_and_gives_them_back(photographs, tmp_path, small_vae):
    records, _ = optimise(photographs, small_vae)
    shards = [tmp_path / "shards" / f"{number}.h5" for number in range(2)]
    for path, part in zip(shards, (records[:3], records[3:]), strict=True):
        with HDF5Exporter(path, header(small_vae)) as exporter:
            exporter.write(part)
    again = [record for path in shards for batch in read_records(path) for record in batch]
    assert len(again) == len(records)
    for one, two in zip(records, again, strict=True):
        assert set(two.views) == {"flipped", "rotated"}
        for (view, first), (other, second) in zip(one.all_views(), two.all_views(), strict=True):
            assert view is other
            same(first, second)
    with h5py.File(shards[0]) as file:
        for column in ("initial_latents", "optimized_latents", "losses", "iterations", "stop_reason"):
            assert {f"{column}{suffix}" for suffix in ("", "_flipped", "_rotated")} <= set(file)
        assert set(file["metrics_rotated"]) == set(METRICS)
    write_virtual(tmp_path / "dataset.h5", shards, header(small_vae))
    with h5py.File(tmp_path / "dataset.h5") as file:
        assert all(
            file[f"{column}_rotated"].is_virtual for column in ("initial_latents", "optimized_latents", "losses")
        )
    dataset = relatent.load_optimized_dataset(tmp_path / "dataset.h5")
    for index, record in enumerate(records):
        sample = dataset[index]
        found = record.views["rotated"]
        assert np.array_equal(sample["optimized_latents_rotated"].numpy(), found.optimized_latents)
        assert sample["metrics_rotated"] == pytest.approx(found.metrics, rel=1e-6)


def test_a_file_without_the_view_is_read_as_before(photographs, tmp_path, small_vae):
    batcher = Batcher(small_vae, CONFIG, 32, batch_size=2)
    pictures = [batcher.reader.load(source) for source in discover(photographs)]
    records = [record for records in batcher.batches(pictures, len(pictures)) for record in records]
    with HDF5Exporter(tmp_path / "a.h5", header(small_vae)) as exporter:
        exporter.write(records)
    assert all(record.views == {} for batch in read_records(tmp_path / "a.h5") for record in batch)


def test_formats_that_treat_views_alike_keep_the_third(photographs, tmp_path, small_vae):
    from safetensors.torch import load_file

    records, _ = optimise(photographs, small_vae)
    train = [record for record in records if record.split == "train"]
    for name in ("pt", "png", "safetensors", "webdataset", "mds"):
        with exporter_class(name)(tmp_path / name, header(small_vae)) as exporter:
            exporter.write(train)
    content = torch.load(tmp_path / "pt", weights_only=True)
    tensors = load_file(tmp_path / "safetensors" / "train-00000.safetensors")
    for index, record in enumerate(train):
        latents = record.views["rotated"].optimized_latents
        assert np.array_equal(content["optimized_latents_rotated"][index].numpy(), latents)
        assert np.array_equal(tensors["latents_rotated"][index].numpy(), latents)
        facts = json.loads((tmp_path / "png" / "train" / record.name / "metrics.json").read_text())
        assert facts["rotated"]["final_psnr"] == record.views["rotated"].metrics["final_psnr"]
    assert "processing_statistics_rotated" in content["metadata"]
    readme = (tmp_path / "png" / "README.md").read_text()
    assert "also optimised mirrored left-right, as a target" in readme
    assert "also optimised rotated, as a target" in readme
    provenance = json.loads((tmp_path / "webdataset" / "relatent.json").read_text())
    assert provenance["counts"] == {"total": 2, "flipped": 2, "rotated": 2, "splits": {"train": 2}}
    index = json.loads((tmp_path / "mds" / "train" / "index.json").read_text())
    assert "latents_32_rotated" in index["shards"][0]["column_names"]


def test_of_a_picture_of_which_the_third_view_fails(photographs, small_vae):
    """The reason names the view."""

    def encode(images):
        top, bottom = images.chunk(2, dim=-2)
        poisoned = top.mean((1, 2, 3)) < bottom.mean((1, 2, 3))
        return torch.where(poisoned.view(-1, 1, 1, 1), torch.nan, small_vae.encode(images))

    for path in photographs.rglob("*.*"):
        path.unlink()
    pixels = np.full((32, 32, 3), 90, np.uint8)
    pixels[:16] = 200
    Image.fromarray(pixels).save(photographs / "a.png")
    vae = relatent.load_autoencoder(
        small_vae.decoder, encoder=encode, latent_channels=4, downscale_factor=8, native_size=32, name="poisoned"
    )
    (failed,), _ = optimise(photographs, vae)
    assert failed.stage == "optimize"
    assert failed.reason.startswith("rotated: NaN or infinity")
