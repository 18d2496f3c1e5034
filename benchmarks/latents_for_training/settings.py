"""What a study is: every value that changes its figures."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...engine.errors import UsageError
from ...engine.runtime.atomic import write_json

TIMESTEPS = (100, 300, 500, 700)  # of the noise from which held-out latents are restored in one step
GUIDANCE = (1.0, 1.5, 3.0)  # scales at which a conditional model is sampled


@dataclass(frozen=True)
class StudySettings:
    """Sizes of a study, equal for all arms. `--quick` has those of `QUICK` in place of these."""

    side: int = 64  # pixels
    users: int = 31  # simulated ones, where no spectrograms are given
    recordings: int = 5  # of each simulated user
    windows: int = 6  # pictures of each recording that are used
    crops: int = 8  # of each photograph
    max_photographs: int = 1_000  # at most, in the order of their names
    vae_steps: int = 3_000  # updates of the spectrograms' VAE, where none is given
    classifier_epochs: int = 24
    steps: int = 1_200  # updates of each diffusion
    samples: int = 8  # of each user, at each guidance scale
    photo_samples: int = 256  # of each model of photographs
    inference_steps: int = 25  # of DDIM

    def __post_init__(self) -> None:
        least = {"recordings": 2, "users": 2, "crops": 2, "samples": 2, "photo_samples": 2, "max_photographs": 3}
        for name, value in asdict(self).items():
            if value < least.get(name, 1):
                raise UsageError(f"--{name} is {value}; give a whole number from {least.get(name, 1)} on")


QUICK: dict[str, int] = {
    "users": 6, "recordings": 3, "windows": 4, "crops": 4, "max_photographs": 15, "vae_steps": 150, "classifier_epochs": 6,
    "steps": 100, "samples": 4, "photo_samples": 24, "inference_steps": 10,
}  # fmt: skip


def keep_settings(work: Path, record: dict[str, Any]) -> None:
    """Write `work`/study.json. Raises `UsageError` where the folder holds a study of other settings."""
    path = work / "study.json"
    if not path.is_file():
        write_json(path, record)
    there = json.loads(path.read_text(encoding="utf-8"))
    if different := [name for name in record if there.get(name) != record[name]]:
        raise UsageError(
            f"{work} holds a study with another {different[0]} ({there.get(different[0])}, not {record[different[0]]}); "
            "give the same, or another WORK"
        )
