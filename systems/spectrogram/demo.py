"""The whole way on simulated walkers: spectrograms, VAE, diffusion model, samples, validation, page."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .data.simulate import simulate
from .diffusion.generate import GenerationSettings, generate
from .diffusion.run import train_on_spectrograms
from .report.page import write_report
from .vae.settings import recipe_settings
from .vae.training import train_vae
from .validation.fitting import FitSettings
from .validation.pipeline import ValidationSettings, validate

OnStep = Callable[[str], None]
SCORES = ("recognition.accuracy", "frechet", "diversity_ratio", "nearest.copies")  # that are returned


@dataclass(frozen=True)
class DemoSettings:
    """All sizes of the demo: small enough for two cores and some ten minutes. vae, diffusion: more settings in place of the recipe small."""

    users: int = 8
    recordings: int = 5  # of each user
    windows: int = 20  # pictures of each recording
    side: int = 64  # pixels
    vae_steps: int = 800
    diffusion_steps: int = 2000
    samples: int = 10  # of each user
    guidance_scale: float = 1.5
    epochs: int = 12  # of each of the three trainings of validators
    vae: dict[str, Any] = field(default_factory=dict)
    diffusion: dict[str, Any] = field(default_factory=lambda: {"subtract_mean": True})


def run_demo(
    out: Path, settings: DemoSettings = DemoSettings(), on_step: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Simulate walkers, train both models on them, generate and validate samples and write a page, all in `out`, or go on with that.

    on_step: called with what is done next, and with progress. Returns figures, paths and what each stage took, JSON-ready; `cpu_seconds` are
    those of all threads. Raises `UsageError` and `SpectrogramError` where `out` holds something else.
    """
    tell = on_step or (lambda _: None)
    data, vae, model, samples, validation = (
        out / name for name in ("spectrograms", "vae", "model", "samples", "validation")
    )
    stages: dict[str, dict[str, float]] = {}
    with _stage("simulation", stages, tell):
        simulate(data, settings.users, settings.recordings, settings.windows, settings.side)
    with _stage("VAE", stages, tell):
        vae_record = _train_vae(settings, data, vae, tell)
    with _stage("diffusion model", stages, tell):
        given = {
            "max_steps": settings.diffusion_steps,
            "condition_scale": settings.guidance_scale,
            **settings.diffusion,
        }
        model_record = train_on_spectrograms(data, vae, model, "small", progress=tell, **given)
    with _stage("samples", stages, tell):
        generated = generate(
            model, samples, settings.samples, settings=GenerationSettings(settings.guidance_scale), batch_size=32
        )
    with _stage("validation and page", stages, tell):
        fit = FitSettings(settings.users, settings.side, settings.epochs)
        result, pictures = validate(ValidationSettings(data, samples, validation, fit), tell)
        report = write_report(result, pictures, validation, vae)
    verdicts = [score["holds"] for score in result["scores"]]
    return {
        "simulated": True,
        "settings": asdict(settings),
        "vae": {name: vae_record[name] for name in ("psnr", "ssim", "steps")},
        "diffusion": {name: model_record[name] for name in ("validation_loss", "steps", "parameters")},
        "samples": generated["samples"],
        "judge": result["judge"],
        "scores": [score for score in result["scores"] if score["name"] in SCORES],
        "targets": {name: verdicts.count(value) for name, value in (("hold", True), ("fail", False))},
        "report": str(report),
        "stages": stages,
        "seconds": sum(stage["seconds"] for stage in stages.values()),
        "cpu_seconds": sum(stage["cpu_seconds"] for stage in stages.values()),
    }


def _train_vae(settings: DemoSettings, data: Path, vae: Path, tell: OnStep) -> dict[str, Any]:
    given = {
        "resolution": settings.side,
        "num_users": settings.users,
        "max_steps": settings.vae_steps,
        "epochs": settings.vae_steps,  # an epoch has one update at least, so these are enough
        **settings.vae,
    }
    return train_vae(recipe_settings("small", data_dir=str(data), output_dir=str(vae), **given), tell)


@contextmanager
def _stage(name: str, stages: dict[str, dict[str, float]], tell: OnStep) -> Iterator[None]:
    """Say what is done, and keep what it took."""
    tell(f"== {name}")
    wall, processor = time.perf_counter(), time.process_time()
    yield
    stages[name] = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
