"""How latents are scaled, there and back, and what files hold of it."""

import json

import numpy as np
import pytest
import torch
from helpers import small_kl
from relatent import OptimizationConfig, load_autoencoder, load_optimized_dataset, optimize_directory
from relatent.engine.autoencoders.scaling import (
    BatchNormScaling,
    ChannelScaling,
    FactorScaling,
    identity_scaling,
    scaling_from_json,
)
from relatent.engine.errors import DatasetError, UsageError
from safetensors.torch import load_file

SCALINGS = [
    FactorScaling(0.18215),
    FactorScaling(0.3611, 0.1159),
    ChannelScaling((0.5, -1.0, 0.0, 2.0), (1.0, 2.0, 0.5, 4.0), 0.13025),
    BatchNormScaling(tuple(np.linspace(-1, 1, 16)), tuple(np.linspace(0.1, 2, 16)), 1e-4),
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda scaling: type(scaling).__name__)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_there_and_back(scaling, batch):
    latents = torch.randn(*batch, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    scaled = scaling.scale(latents)
    torch.testing.assert_close(scaling.unscale(scaled), latents, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scaling.scale(latents.numpy()), scaled.numpy(), rtol=1e-6, atol=1e-6)
    stored = json.loads(json.dumps(scaling.to_json()))
    assert scaling_from_json(stored) == scaling
    assert identity_scaling({"scaling": stored}) == scaling


def test_formulas():
    z = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(FactorScaling(0.5, 0.25).scale(z), (z - 0.25) * 0.5)
    mean, std = (torch.tensor(x).view(1, 4, 1, 1) for x in ([0.5, -1.0, 0.0, 2.0], [1.0, 2.0, 0.5, 4.0]))
    torch.testing.assert_close(SCALINGS[2].scale(z), (z - mean) * 0.13025 / std)
    packed = torch.nn.functional.pixel_unshuffle(z, 2)  # channel c, row i, column j of a patch -> 4c + 2i + j
    norm = torch.nn.BatchNorm2d(16, eps=1e-4, affine=False).eval()
    norm.running_mean, norm.running_var = (torch.tensor(x) for x in (SCALINGS[3].mean, SCALINGS[3].var))
    torch.testing.assert_close(SCALINGS[3].scale(z), norm(packed.double()).float(), rtol=1e-5, atol=1e-5)


def test_an_older_identity_has_two_factors():
    assert identity_scaling({"scaling_factor": 0.2, "shift_factor": 0.1}) == FactorScaling(0.2, 0.1)


def test_the_identity_holds_it_whole():
    vae = load_autoencoder(torch.nn.Identity(), scaling=SCALINGS[2])
    assert vae.identity()["scaling"] == SCALINGS[2].to_json()
    assert (vae.scaling_factor, vae.shift_factor) == (0.13025, 0.0)
    plain = load_autoencoder(torch.nn.Identity(), scaling_factor=0.3, shift_factor=0.1)
    assert plain.identity()["scaling"] == {"kind": "factor", "factor": 0.3, "shift": 0.1}


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="equally many channels, found 1 and 2"):
        ChannelScaling((0.0,), (1.0, 1.0))
    with pytest.raises(UsageError, match="above 0, found 0"):
        ChannelScaling((0.0, 0.0), (1.0, 0.0))
    with pytest.raises(DatasetError, match="expected one of factor, channels, batch_norm, found 'log'"):
        scaling_from_json({"kind": "log"})
    with pytest.raises(DatasetError, match="gain"):
        scaling_from_json({"kind": "factor", "gain": 2.0})


def test_statistics_in_a_configuration_of_diffusers_are_kept(tmp_path):
    small_kl(
        latents_mean=[0.5, -1.0, 0.0, 2.0], latents_std=[1.0, 2.0, 0.5, 4.0], scaling_factor=0.13025
    ).save_pretrained(tmp_path)
    vae = load_autoencoder(tmp_path, device="cpu")
    assert vae.scaling == SCALINGS[2]
    assert load_autoencoder(small_kl(shift_factor=0.1), device="cpu").scaling == FactorScaling(0.3, 0.1)


def test_files_hold_it_whole_and_scaled_formats_use_it(tmp_path, photographs):
    vae = load_autoencoder(small_kl(), device="cpu")
    vae.scaling = SCALINGS[2]
    config = OptimizationConfig(iterations=2)
    formats = ["hdf5", "pt", "webdataset", "safetensors", "ai-toolkit"]
    optimize_directory(photographs, tmp_path / "out", vae, config=config, size=32, formats=formats)
    expected = SCALINGS[2].to_json()
    for name in ("dataset.h5", "dataset.pt"):
        assert load_optimized_dataset(tmp_path / "out" / name).get_metadata()["vae"]["scaling"] == expected
    for name in ("webdataset", "safetensors", "ai-toolkit"):
        provenance = json.loads((tmp_path / "out" / name / "relatent.json").read_text())
        assert provenance["vae"]["scaling"] == expected
    (file,) = (tmp_path / "out" / "ai-toolkit" / "test").rglob("*.safetensors")
    dataset = load_optimized_dataset(tmp_path / "out" / "dataset.h5")
    (sample,) = (dataset[i] for i in range(len(dataset)) if dataset[i]["image_name"] == "third")
    torch.testing.assert_close(load_file(file)["latent"], SCALINGS[2].scale(sample["optimized_latents"]))
    assert "`scaling` of kind `channels`" in (tmp_path / "out" / "ai-toolkit" / "README.md").read_text()


@pytest.mark.parametrize("shape", [(4,), (4, 1, 1), (1, 4, 1, 1), (1, 4, 1, 1, 1)])
def test_statistics_of_any_shape_are_those_of_channels(shape):
    from relatent.engine.autoencoders.families.parts import config_scaling

    mean, std = torch.arange(4.0).reshape(shape), torch.arange(1.0, 5.0).reshape(shape)
    config = {"latents_mean": mean.tolist(), "latents_std": std.tolist(), "scaling_factor": None}
    assert config_scaling(config, 4) == ChannelScaling((0.0, 1.0, 2.0, 3.0), (1.0, 2.0, 3.0, 4.0))
    with pytest.raises(UsageError, match="one number for each of 8 channels, found 4"):
        config_scaling(config, 8)
    clips = torch.randn(2, 4, 3, 5, 6)
    expected = (clips - mean.view(1, 4, 1, 1, 1)) / std.view(1, 4, 1, 1, 1)
    torch.testing.assert_close(config_scaling(config, 4).scale(clips), expected)


def test_latents_that_are_no_whole_patches_are_refused():
    scaling = BatchNormScaling((0.0,) * 8, (1.0,) * 8)
    assert scaling.scale(torch.zeros(1, 2, 4, 6)).shape == (1, 8, 2, 3)
    with pytest.raises(UsageError, match="packs 2x2 latent cells, found latents of 5x6"):
        scaling.scale(torch.zeros(1, 2, 5, 6))
