"""A run in a trainer's buckets, and the cache of that trainer: each picture's latents have the size that it trains on."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import relatent
import torch
from helpers import picture, small_kl
from PIL import Image
from relatent.engine.autoencoders.scaling import identity_scaling
from relatent.engine.inputs.buckets.registry import parse_buckets
from relatent.engine.losses.metrics import from_uint8, psnr
from relatent.exporters.base.exporter import make_exporter
from relatent.factory.export import export_run
from relatent.factory.state.run_folder import RunFolder
from safetensors.numpy import load_file

PICTURES = {"square": (96, 96), "wide": (160, 64), "tall": (64, 160), "photo": (120, 80), "small": (40, 30)}
RULES = {  # the trainer's buckets, its format
    "kohya": "sd-scripts:64,step=8,min=32,max=128",
    "musubi": "musubi:64",
    "ai-toolkit": "ai-toolkit:64",
    "onetrainer": "onetrainer:64,step=8",
    "simpletuner": "simpletuner:64",
}


@pytest.fixture(scope="module")
def vae():
    """With the channels and the scaling of FLUX.1's, which all five train on."""
    model = small_kl(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159)
    return relatent.load_autoencoder(model, device="cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("buckets") / "in"
    folder.mkdir()
    for seed, (name, (width, height)) in enumerate(PICTURES.items()):
        Image.fromarray(picture(height, width, seed)).save(folder / f"{name}.png")
    return folder


def stored_latents(name, folder, record):
    """The array of a picture in a cache, without its time axis."""
    width, height = PICTURES[record.name]
    h, w = record.optimized_latents.shape[-2:]
    if name == "kohya":
        with np.load(folder / f"{record.name}_{width:04d}x{height:04d}_flux.npz") as file:
            return file[f"latents_{h}x{w}"]
    if name == "musubi":
        return load_file(folder / f"{record.name}_{width:04d}x{height:04d}_zi.safetensors")[
            f"latents_1x{h}x{w}_float32"
        ]
    if name == "ai-toolkit":
        return load_file(next(folder.glob(f"_latent_cache/{record.name}_*.safetensors")))["latent"]
    if name == "simpletuner":
        stem = hashlib.sha256(record.name.encode()).hexdigest()
        return torch.load(folder / f"{stem}.pt", weights_only=True).numpy()
    items = torch.load(folder / "variation-0" / "aggregate.pt", weights_only=True)
    index = [item["image_path"] for item in items].index(record.source_path)
    item = torch.load(folder / "variation-0" / f"{index}.pt", weights_only=True)
    assert items[index]["crop_resolution"] == (h * 8, w * 8)
    return item["latent_image"].numpy()


@pytest.mark.parametrize("name", RULES)
def test_each_picture_has_the_size_that_the_trainer_gives_it(vae, pictures, tmp_path, name):
    rule = parse_buckets(RULES[name])
    config = relatent.OptimizationConfig(iterations=2)
    relatent.optimize_directory(
        pictures, tmp_path / "out", vae, config=config, buckets=RULES[name], formats=["hdf5", name], workers=0
    )
    run = RunFolder.open(tmp_path / "out")
    records = [record for batch in run.records() for record in batch]
    assert {record.name for record in records} == set(PICTURES)
    assert len({record.optimized_latents.shape for record in records}) > 2
    provenance = json.loads((run.out / name / "relatent.json").read_text())
    for record in records:
        resized, bucket = rule.fit(PICTURES[record.name])
        stored = stored_latents(name, run.out / name, record)
        assert stored.shape == (16, bucket[1] // 8, bucket[0] // 8)
        scaling = identity_scaling(provenance["vae"])
        latents = scaling.unscale(stored) if provenance["latents_scaled"] else stored
        np.testing.assert_allclose(latents, record.optimized_latents, rtol=1e-5, atol=1e-5)
        target = from_uint8(torch.from_numpy(record.images["original"])).permute(2, 0, 1)[None]
        value = psnr(vae.decode(torch.from_numpy(np.ascontiguousarray(latents, np.float32))[None]), target).item()
        assert value == pytest.approx(record.metrics["final_psnr"], abs=0.05)
        if name == "ai-toolkit":  # what it hashes is what it computes
            facts = make_exporter(name, run.out, run.header).parameters(record)
            assert (facts["scale_to_width"], facts["scale_to_height"]) == resized
            assert (facts["crop_width"], facts["crop_height"]) == bucket
        if name == "onetrainer":
            index = sorted(PICTURES).index(record.name)
            item = torch.load(run.out / name / "variation-0" / f"{index}.pt", weights_only=True)
            assert item["crop_offset"] == ((resized[1] - bucket[1]) // 2, (resized[0] - bucket[0]) // 2)


def test_a_rectangle_is_stated_to_the_trainer(vae, pictures, tmp_path):
    config = relatent.OptimizationConfig(iterations=1)
    relatent.optimize_directory(pictures / "photo.png", tmp_path / "out", vae, config=config, size=(48, 32))
    run = RunFolder.open(tmp_path / "out")
    words = {"kohya": 'resolution = "48,32"', "musubi": "resolution = [48, 32]", "onetrainer": "resolution to 48x32"}
    for name, text in words.items():
        assert text in Path(export_run(run, name), "README.md").read_text()
