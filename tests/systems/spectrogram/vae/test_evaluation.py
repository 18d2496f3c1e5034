"""Figures of held-out pictures and latents against plain formulas."""

import numpy as np
import pytest
import torch
from relatent.systems.spectrogram.data.dataset import SpectrogramDataset
from relatent.systems.spectrogram.data.spectrogram_folder import read_spectrograms
from relatent.systems.spectrogram.vae.evaluation import latent_statistics, reconstruction_quality
from relatent.systems.spectrogram.vae.model import build_vae
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


@pytest.fixture
def dataset(spectrograms):
    return SpectrogramDataset(read_spectrograms(spectrograms), 32)


@pytest.fixture
def vae(small_settings):
    torch.manual_seed(0)
    return build_vae(small_settings()).eval()


@torch.no_grad()
def test_quality_is_the_mean_over_pictures(vae, dataset):
    found = reconstruction_quality(vae, dataset, batch_size=5)
    psnrs, ssims = [], []
    for sample in dataset:
        image = sample["image"][None]
        decoded = vae.decode(vae.encode(image).latent_dist.mean).sample.clamp(-1, 1)
        one, other = ((0.5 * x[0] + 0.5).permute(1, 2, 0).double().numpy() for x in (image, decoded))
        psnrs.append(peak_signal_noise_ratio(one, other, data_range=1))
        similarity = dict(gaussian_weights=True, use_sample_covariance=False, sigma=1.5, data_range=1, channel_axis=2)
        ssims.append(structural_similarity(one, other, **similarity))
    assert found.psnr == pytest.approx(np.mean(psnrs), abs=1e-3)
    assert found.ssim == pytest.approx(np.mean(ssims), abs=1e-4)
    assert found.shown.shape == (2, 8, 3, 32, 32)
    assert torch.equal(found.shown[0, 7], dataset[7]["image"])


def test_a_limit_takes_pictures_of_the_whole_set(vae, dataset):
    shown = reconstruction_quality(vae, dataset, batch_size=2, limit=3).shown
    for column, index in enumerate((0, 12, 23)):
        assert torch.equal(shown[0, column], dataset[index]["image"])


@torch.no_grad()
def test_the_factor_makes_the_spread_of_latents_one(vae, dataset):
    found = latent_statistics(vae, dataset, batch_size=7)
    latents = torch.cat([vae.encode(sample["image"][None]).latent_dist.mean for sample in dataset]).double()
    assert found["latent_mean"] == pytest.approx(latents.mean().item(), rel=1e-4)
    assert found["latent_std"] == pytest.approx(latents.std(correction=0).item(), rel=1e-4)
    assert (latents * found["scaling_factor"]).std(correction=0).item() == pytest.approx(1.0, rel=1e-4)
    assert found["channel_mean"] == pytest.approx(latents.mean((0, 2, 3)).tolist(), rel=1e-3)
    assert found["channel_std"] == pytest.approx(latents.std((0, 2, 3), correction=0).tolist(), rel=1e-3)
