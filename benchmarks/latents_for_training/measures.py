"""Measures of an arm that need no training of a diffusion: reconstruction, distance, spectrum, robustness, interpolation."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.autoencoders.loading import load_autoencoder
from ...engine.losses.metrics import from_uint8, psnr, ssim, to_uint8
from ...engine.losses.regularisers import l2_to_init
from ...engine.runtime.atomic import write_json
from ...engine.statistics.spectrum import Spectrum
from ...systems.spectrogram.diffusion.draws import generator_of
from ...systems.spectrogram.diffusion.latent_scaling import LatentScaling
from ...systems.spectrogram.validation.frechet import frechet_distance
from .arms import ARMS, Arm, Domain, read_latents
from .data import read_pictures
from .features import decoded_pictures, read_classifier
from .settings import StudySettings

BATCH = 32
NOISE = 0.1  # σ of the arm's latents
SEED = 31_000


def load_domain(domain: Domain) -> Autoencoder:
    return load_autoencoder(domain.vae, weights=domain.weights)


def decode(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """(N, C, h, w) unscaled to (N, 3, R, R) in [−1, 1], on the CPU."""
    with torch.inference_mode():
        parts = [autoencoder.decode(part.to(autoencoder.device)).float().cpu() for part in latents.split(BATCH)]
    return torch.cat(parts).clamp(-1.0, 1.0)


def by_batch(function: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> float:
    """The mean over all pictures of a measure that gives (B,)."""
    pairs = zip(first.split(BATCH), second.split(BATCH), strict=True)
    return float(torch.cat([function(one, other) for one, other in pairs]).mean())


def measure_arm(domain: Domain, arm: Arm, settings: StudySettings) -> None:
    """Write the arm's measures. Reconstruction is of all pictures, Fréchet distances of those that are trained on."""
    pictures, autoencoder, judge = (
        read_pictures(domain.source, settings.side),
        load_domain(domain),
        read_classifier(domain.source),
    )
    latents, initial = read_latents(domain, arm), read_latents(domain, ARMS["initial"])
    scaling = LatentScaling.of(latents[~pictures.held_out], subtract_mean=True)
    scaled = scaling.scale(latents)
    noise = torch.randn(latents.shape, generator=generator_of(SEED))  # the same for all arms
    real, plain = from_uint8(pictures.set.images), decode(autoencoder, latents)
    found = {"psnr": by_batch(psnr, plain, real), "ssim": by_batch(ssim, plain, real)}
    noisy = decode(autoencoder, scaling.unscale(scaled + NOISE * noise))
    found["noise_loss"] = found["psnr"] - by_batch(psnr, noisy, real)
    found["distance"] = float(l2_to_init(latents, initial).sqrt().mean())
    before = LatentScaling.of(initial[~pictures.held_out], subtract_mean=True).scale(initial)
    found["high_frequencies"] = _high_share(scaled) / _high_share(before)
    own = scaled[~pictures.held_out]
    users = torch.zeros(len(own), dtype=torch.int64)
    features = judge.features(pictures.training)
    between = decode(autoencoder, scaling.unscale((own + own[nearest(own)]) / 2))
    for name, images in (("decoded_frechet", plain[~pictures.held_out]), ("interpolation_frechet", between)):
        found[name] = frechet_distance(judge.features(decoded_pictures(to_uint8(images), users)), features)
    found["std"] = scaling.std
    write_json(domain.measured(arm), found)


def nearest(latents: Tensor) -> Tensor:
    """(N,) int64: of each latent (N, C, h, w) the nearest other one, by Euclidean distance."""
    distances = torch.cdist(latents.flatten(1), latents.flatten(1))
    return distances.fill_diagonal_(float("inf")).argmin(1)


def _high_share(latents: Tensor) -> float:
    found = Spectrum()
    found.add(latents.numpy())
    return found.high_share
