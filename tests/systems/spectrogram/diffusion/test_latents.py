"""Latents and their scaling, split, cache and source."""

import os

import pytest
import relatent
import torch
from relatent.engine.errors import DatasetError, UsageError
from relatent.systems.spectrogram.data.errors import SpectrogramError
from relatent.systems.spectrogram.data.spectrogram_folder import read_spectrograms
from relatent.systems.spectrogram.diffusion import encoding
from relatent.systems.spectrogram.diffusion.encoding import encode_spectrograms
from relatent.systems.spectrogram.diffusion.latent_scaling import LatentScaling
from relatent.systems.spectrogram.diffusion.latent_set import LatentSet
from relatent.systems.spectrogram.vae.model import load_vae
from tiny_diffusion import toy_latents

QUIET = {"device": "cpu", "progress": lambda line: None}


def test_the_factor_is_one_over_the_latents_own_spread():
    latents = 7.0 * toy_latents().latents + 3.0
    scaling = LatentScaling.of(latents)
    scaled = scaling.scale(latents)
    assert scaled.std(correction=0) == pytest.approx(1.0, abs=1e-4)
    assert scaling.record()["scaling_factor"] == pytest.approx(1.0 / latents.std().item(), rel=1e-3)
    assert abs((0.18215 * latents).std() - 1.0) > 0.5  # what the fixed factor of Stable Diffusion's VAE would give
    assert torch.allclose(scaled, latents / scaling.std)  # the mean stays
    assert torch.allclose(scaling.unscale(scaled), latents, atol=1e-4)


def test_the_mean_is_subtracted_where_it_is_asked_for():
    latents = toy_latents().latents + torch.tensor([10.0, -4.0])[:, None, None]
    scaling = LatentScaling.of(latents, subtract_mean=True)
    scaled = scaling.scale(latents)
    assert scaled.mean((0, 2, 3)).abs().max() < 1e-4
    assert scaled.std(correction=0) == pytest.approx(1.0, abs=1e-4)
    assert torch.allclose(LatentScaling.from_record(scaling.record()).unscale(scaled), latents, atol=1e-4)


def test_every_user_is_in_both_parts_and_no_recording_is():
    training, held_out = toy_latents(users=5, count=100).split()
    for part in (training, held_out):
        assert set(part.users.tolist()) == set(range(5))
    recordings = [set(zip(part.users.tolist(), part.recordings, strict=True)) for part in (training, held_out)]
    assert not recordings[0] & recordings[1]
    assert len(training) + len(held_out) == 100
    one = LatentSet(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ("a", "b"))
    with pytest.raises(SpectrogramError, match="one recording only"):
        one.split()


@pytest.mark.parametrize(
    ("latents", "users", "names", "message"),
    [
        (torch.zeros(2, 2, 2), torch.tensor([0, 1]), ("a", "b"), "expected .N, C, h, w. in fp32"),
        (torch.zeros(2, 1, 2, 2).half(), torch.tensor([0, 1]), ("a", "b"), "found .2, 1, 2, 2. in float16"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([0.0, 1.0]), ("a", "b"), "2 users in int64"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ("a",), "as many recordings"),
        (torch.full((2, 1, 2, 2), float("nan")), torch.tensor([0, 1]), ("a", "b"), "finite"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([0, -1]), ("a", "b"), "from 0 on, found -1"),
    ],
)
def test_what_is_no_set_of_latents(latents, users, names, message):
    with pytest.raises(UsageError, match=message):
        LatentSet(latents, users, names)


def test_spectrograms_are_encoded_once(spectrograms, vae_dir, tmp_path, monkeypatch):
    items, cache = read_spectrograms(spectrograms), tmp_path / "out" / "latents.safetensors"
    latents = encode_spectrograms(vae_dir, items, cache, batch_size=5, **QUIET)
    assert latents.users.tolist() == [item.user for item in items]
    assert latents.recordings == tuple(item.recording for item in items)
    vae = load_vae(vae_dir)[0]
    picture = torch.from_numpy(items[3].read(32)).permute(2, 0, 1)[None] / 127.5 - 1
    assert torch.allclose(latents.latents[3], vae.encode(picture).latent_dist.mode()[0], atol=1e-5)  # not scaled
    monkeypatch.setattr(encoding, "SpectrogramDataset", None)  # nothing is read any more
    assert torch.equal(encode_spectrograms(vae_dir, items, cache, **QUIET).latents, latents.latents)


def test_a_stale_or_damaged_cache_is_made_anew(spectrograms, vae_dir, tmp_path):
    items, cache = read_spectrograms(spectrograms), tmp_path / "latents.safetensors"
    first = encode_spectrograms(vae_dir, items, cache, **QUIET)
    cache.write_bytes(cache.read_bytes()[:100])
    assert torch.equal(encode_spectrograms(vae_dir, items, cache, **QUIET).latents, first.latents)
    assert len(encode_spectrograms(vae_dir, items[:5], cache, **QUIET)) == 5
    encode_spectrograms(vae_dir, items, cache, **QUIET)
    before = cache.stat().st_mtime_ns
    os.utime(items[0].path)
    encode_spectrograms(vae_dir, items, cache, **QUIET)
    assert cache.stat().st_mtime_ns > before


@pytest.fixture(scope="module")
def dataset(spectrograms, vae_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    config = relatent.OptimizationConfig(iterations=2, precision="fp32", precondition=False, gradient_error=0.0)
    relatent.optimize_directory(spectrograms, out, str(vae_dir / "vae"), config=config, size=32, device="cpu")
    return out / "dataset.h5"


@pytest.mark.parametrize("column", ["initial_latents", "optimized_latents"])
def test_a_dataset_of_the_engine(dataset, spectrograms, column):
    latents = LatentSet.from_dataset(dataset, column)
    items = {(item.user, item.path.name): item for item in read_spectrograms(spectrograms)}
    assert len(latents) == len(items) == 24
    assert sorted(zip(latents.users.tolist(), latents.recordings, strict=True)) == sorted(
        (item.user, item.recording) for item in items.values()
    )
    samples = relatent.load_optimized_dataset(dataset)
    assert torch.equal(latents.latents[7], samples[7][column])
    training, held_out = latents.split()
    assert (len(training), len(held_out)) == (16, 8)


def test_datasets_that_cannot_be_used(dataset, tmp_path):
    with pytest.raises(UsageError, match="initial_latents, optimized_latents, found 'latents'"):
        LatentSet.from_dataset(dataset, "latents")
    with pytest.raises(DatasetError, match="no such file"):
        LatentSet.from_dataset(tmp_path / "dataset.h5")
    with pytest.raises(DatasetError, match="export OUT --to hdf5"):
        LatentSet.from_dataset(tmp_path / "dataset.pt")
