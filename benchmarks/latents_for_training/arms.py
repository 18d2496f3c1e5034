"""The arms of a study: which latents a diffusion is trained on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...engine.errors import RunStoppedError
from ...engine.optimization.presets import preset
from ...engine.runtime.atomic import write_json
from ...exporters.hdf5.reading import open_file
from ...factory.api import optimize_directory
from ...systems.spectrogram.diffusion.draws import generator_of
from .data import Source

BASE = "balanced"  # its run has the encoder's latents too, and says how far `initial_noise` moves
NOISE_SEED = 30_000


@dataclass(frozen=True)
class Arm:
    """preset, overrides and regularisers of a run of the factory; preset "" for an arm that is made of `BASE`'s."""

    name: str
    preset: str = ""
    regularisers: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    shuffled: bool = False  # the users are permuted in the training: a control


ARMS = {
    arm.name: arm
    for arm in (
        Arm("initial"),
        Arm("fast", "fast"),
        Arm("balanced", "balanced"),
        Arm("best", "best"),
        Arm("balanced_prior", "balanced", "0.1*prior"),
        Arm("balanced_l2", "balanced", "0.01*l2_to_init"),
        Arm("balanced_spectrum", "balanced", "0.1*spectrum"),
        Arm("initial_noise"),  # the encoder's latents and Gaussian noise, as far from them as those of BASE
        Arm("initial_shuffled", shuffled=True),  # where users are told only
    )
}


@dataclass(frozen=True)
class Domain:
    """Pictures and the autoencoder whose latents are studied. vae, weights: as `load_autoencoder` takes them."""

    name: str
    folder: Path
    source: Source
    vae: str
    weights: Path | None = None

    def run(self, arm: Arm) -> Path:
        """The folder of the factory's run that an arm is made of."""
        return self.folder / "runs" / (arm.name if arm.preset else BASE)

    def optimised(self, arm: Arm) -> Path:
        """Written when that run is done."""
        return self.folder / "optimised" / f"{self.run(arm).name}.json"

    def measured(self, arm: Arm) -> Path:
        return self.folder / "arms" / f"{arm.name}.json"

    def cell(self, arm: Arm, seed: int) -> Path:
        return self.folder / "cells" / f"{arm.name}-{seed}.json"


def optimise(domain: Domain, arm: Arm, side: int) -> None:
    """As `relatent optimize PICTURES OUT --vae … --size … --preset … --regularise …`; a killed run goes on."""
    overrides = arm.overrides | ({"regularisers": arm.regularisers} if arm.regularisers else {})
    record = optimize_directory(
        domain.source.pictures,
        domain.run(arm),
        domain.vae,
        weights=domain.weights,
        config=preset(arm.preset, **overrides),
        preset=arm.preset,
        size=side,
        keep_images=False,
    )
    if record["status"] != "done" or record["counts"]["failed"]:
        raise RunStoppedError(f"{domain.run(arm)}: {record['status']}, {record['counts']}; see its run.json")
    write_json(domain.optimised(arm), {"seconds": record["seconds"], "counts": record["counts"]})


def read_latents(domain: Domain, arm: Arm) -> Tensor:
    """The arm's latents (N, C, h, w) fp32, unscaled, of the pictures in the order of their names."""
    with open_file(domain.run(arm) / "dataset.h5") as file:
        order = np.argsort(file["source_path"].asstr()[:])
        initial, optimised = (file[f"{name}_latents"][:].astype(np.float32)[order] for name in ("initial", "optimized"))
    first, moved = torch.from_numpy(initial), torch.from_numpy(optimised)
    if arm.preset:
        return moved
    return with_noise(first, moved) if arm.name == "initial_noise" else first


def with_noise(initial: Tensor, moved: Tensor) -> Tensor:
    """The initial latents and Gaussian noise, each as far (RMS) as `moved` is from its initial one. (N, C, h, w)."""
    noise = torch.randn(initial.shape, generator=generator_of(NOISE_SEED))
    distance, length = ((x.square().flatten(1).mean(1).sqrt())[:, None, None, None] for x in (moved - initial, noise))
    return initial + noise * distance / length
