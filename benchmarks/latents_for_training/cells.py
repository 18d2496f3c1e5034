"""One cell of a study: a diffusion trained on the latents of one arm with one seed, its samples, and what they are worth."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...engine.losses.metrics import from_uint8, psnr, to_uint8
from ...engine.runtime.atomic import write_json
from ...systems.spectrogram.diffusion.draws import generator_of, sample_seed
from ...systems.spectrogram.diffusion.latent_set import LatentSet
from ...systems.spectrogram.diffusion.model_folder import DiffusionModel, load_model
from ...systems.spectrogram.diffusion.network import alphas_cumprod
from ...systems.spectrogram.diffusion.sampler import guided_noise, sample_latents
from ...systems.spectrogram.diffusion.settings import recipe_settings
from ...systems.spectrogram.diffusion.trainer import train_diffusion
from ...systems.spectrogram.validation.classifier import UserClassifier, recognition
from ...systems.spectrogram.validation.diversity import within_user_diversity
from ...systems.spectrogram.validation.frechet import frechet_distance
from .arms import Arm, Domain, read_latents
from .data import Pictures, read_pictures
from .features import decoded_pictures, read_classifier, real_distance
from .measures import BATCH, by_batch, decode, load_domain
from .settings import GUIDANCE, TIMESTEPS, StudySettings

RESTORED = 256  # held-out latents, at most, that are restored from noise
SHUFFLE_SEED, RESTORE_SEED = 32_000, 33_000


def run_cell(domain: Domain, arm: Arm, seed: int, settings: StudySettings) -> None:
    """Train, sample, measure; write the cell's figures. A killed training goes on from its checkpoint."""
    pictures = read_pictures(domain.source, settings.side)
    training, held_out = latent_sets(domain, arm, pictures, seed)
    folder = domain.folder / "trainings" / f"{arm.name}-{seed}"
    users = pictures.num_users if domain.source.conditional else 1
    recipe = recipe_settings(
        "small",
        num_users=users,
        max_steps=settings.steps,
        seed=seed,
        subtract_mean=True,
        eval_every=settings.steps,
        condition_scale=1.0,
    )
    started = time.monotonic()
    record = train_diffusion(
        recipe, training, held_out, folder, simulated=pictures.simulated, progress=lambda line: None
    )
    trained = time.monotonic()
    model = load_model(folder)
    found = {
        "validation_loss": record["validation_loss"],
        "restored": _restore(domain, model, pictures, held_out),
        "samples": _sample(domain, model, pictures, seed, settings),
        "seconds": {"training": trained - started, "rest": time.monotonic() - trained},
    }
    write_json(domain.cell(arm, seed), found)


def latent_sets(domain: Domain, arm: Arm, pictures: Pictures, seed: int) -> tuple[LatentSet, LatentSet]:
    """The latents to train on and those held out. Without a condition all have user 0."""
    latents = read_latents(domain, arm)
    users = pictures.set.users if domain.source.conditional else torch.zeros(len(latents), dtype=torch.int64)
    whole = LatentSet(latents, users, pictures.set.names)
    training, held_out = (whole.select(mask.nonzero()[:, 0]) for mask in (~pictures.held_out, pictures.held_out))
    if arm.shuffled:
        order = torch.randperm(len(training), generator=generator_of(SHUFFLE_SEED, seed))
        training = LatentSet(training.latents, training.users[order], training.recordings)
    return training, held_out


@torch.no_grad()
def _restore(domain: Domain, model: DiffusionModel, pictures: Pictures, held_out: LatentSet) -> dict[str, Any]:
    """PSNR, in dB, of the pictures that held-out latents become when noised and restored in one step, by timestep; and as they are."""
    count = min(RESTORED, len(held_out))
    chosen = torch.linspace(0, len(held_out) - 1, count).round().long()
    autoencoder = load_domain(domain)
    real, latents, users = from_uint8(pictures.away.images[chosen]), held_out.latents[chosen], held_out.users[chosen]
    scaled = model.scaling.scale(latents)
    found: dict[str, Any] = {}
    for timestep in TIMESTEPS:
        noise = torch.randn(latents.shape, generator=generator_of(RESTORE_SEED, timestep))  # the same for all arms
        kept = alphas_cumprod()[timestep]
        noisy = kept**0.5 * scaled + (1.0 - kept) ** 0.5 * noise
        parts = zip(noisy.split(BATCH), users.split(BATCH), strict=True)
        predicted = torch.cat([guided_noise(model.network, part, timestep, of, 1.0) for part, of in parts])
        restored = (noisy - (1.0 - kept) ** 0.5 * predicted) / kept**0.5
        found[str(timestep)] = by_batch(psnr, decode(autoencoder, model.scaling.unscale(restored)), real)
    found["mean"] = float(np.mean(list(found.values())))
    found["latents"] = by_batch(psnr, decode(autoencoder, latents), real)
    return found


def _sample(
    domain: Domain, model: DiffusionModel, pictures: Pictures, seed: int, settings: StudySettings
) -> dict[str, Any]:
    """Figures of the samples at each guidance scale; without a condition at scale 1 only."""
    autoencoder, judge = load_domain(domain), read_classifier(domain.source)
    conditional = domain.source.conditional
    count = settings.samples if conditional else settings.photo_samples
    users = torch.arange(model.num_users).repeat_interleave(count)
    seeds = [sample_seed(seed, user, i) for user in range(model.num_users) for i in range(count)]
    near, far = judge.features(pictures.training), judge.features(pictures.away)
    same = min(len(users), len(far))
    found: dict[str, Any] = {
        "count": len(users),
        "real_held_out": real_distance(near, far, len(users)),
        "real_training": real_distance(far, near, same),
        "real_diversity": _diversity(far, pictures.away.users if conditional else torch.zeros(len(far))),
    }
    for scale in GUIDANCE if conditional else GUIDANCE[:1]:
        started = time.monotonic()
        batches = [range(i, min(i + BATCH, len(users))) for i in range(0, len(users), BATCH)]
        latents = torch.cat(
            [
                sample_latents(
                    model.network,
                    model.scaling,
                    users[list(rows)],
                    [seeds[i] for i in rows],
                    scale,
                    settings.inference_steps,
                ).cpu()
                for rows in batches
            ]
        )
        row = _figures(decoded_pictures(to_uint8(decode(autoencoder, latents)), users), judge, near, far, conditional)
        row["spread"] = float(model.scaling.scale(latents).std())
        row["seconds"] = time.monotonic() - started
        found[f"{scale:g}"] = row
    return found


def _figures(
    samples: Any, judge: UserClassifier, near: np.ndarray, far: np.ndarray, conditional: bool
) -> dict[str, float]:
    features = judge.features(samples)
    found = {
        "frechet_held_out": frechet_distance(features, far),
        "frechet_training": frechet_distance(features, near),
        "diversity": _diversity(features, samples.users),
    }
    if conditional:
        found["accuracy"] = recognition(judge.judge(samples), samples.users.numpy())["accuracy"]
    return found


def _diversity(features: np.ndarray, users: Tensor) -> float:
    return float(np.mean(list(within_user_diversity(features, users.numpy()).values())))
