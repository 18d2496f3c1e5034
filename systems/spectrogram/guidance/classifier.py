"""A classifier of users on noisy scaled latents, and its files beside a diffusion model (Dhariwal & Nichol 2021, arXiv 2105.05233).

It must never judge what it has guided: `validation.classifier` is another network, on pictures, trained apart from this one.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path, file_sha256, write_json

WEIGHTS, RECORD = "classifier.safetensors", "classifier.json"
WIDTHS = (32, 64, 128)
BANDS = 4  # of the Doppler axis that are kept apart where time is averaged out
FREQUENCIES = 16  # of the timestep's embedding
SAME = ("latent_shape", "scaling")  # what must be equal in the records of classifier and model


class NoisyClassifier(nn.Module):
    """Tells users from noisy scaled latents at any step of the noise; 0.16 million parameters for 31 users."""

    def __init__(self, channels: int, num_users: int) -> None:
        super().__init__()
        self.convolutions, self.norms, self.shifts = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = channels
        for level, width in enumerate(WIDTHS):
            self.convolutions.append(nn.Conv2d(before, width, 3, stride=1 if level == 0 else 2, padding=1))
            self.norms.append(nn.GroupNorm(8, width))
            self.shifts.append(nn.Linear(2 * FREQUENCIES, 2 * width))
            before = width
        self.head = nn.Linear(before * BANDS, num_users)

    def forward(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Logits (B, num_users). noisy: (B, C, h, w) fp32, scaled. timesteps: (B,) int64 from 0 to 999."""
        frequencies = torch.exp(-math.log(1000.0) * torch.arange(FREQUENCIES, device=noisy.device) / FREQUENCIES)
        angles = timesteps[:, None].float() * frequencies
        embedded, x = torch.cat([angles.sin(), angles.cos()], 1), noisy
        for convolution, norm, shift in zip(self.convolutions, self.norms, self.shifts, strict=True):
            gain, bias = shift(embedded)[:, :, None, None].chunk(2, 1)
            x = nn.functional.silu(norm(convolution(x)) * (1.0 + gain) + bias)
        logits: Tensor = self.head(nn.functional.adaptive_avg_pool2d(x, (BANDS, 1)).flatten(1))
        return logits

    def log_probability(self, noisy: Tensor, timestep: int, users: Tensor) -> Tensor:
        """That of each latent's own user, (B,), differentiable; what `sample_latents` takes as its classifier."""
        timesteps = torch.full_like(users, timestep)
        return self(noisy, timesteps).log_softmax(1).gather(1, users[:, None])[:, 0]


def build_classifier(channels: int, num_users: int, seed: int) -> NoisyClassifier:
    """With initial weights drawn by the seed; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NoisyClassifier(channels, num_users)


def save_classifier(folder: Path, classifier: NoisyClassifier, record: dict[str, Any]) -> None:
    """Write the weights, then the record with their SHA-256."""
    with atomic_path(folder / WEIGHTS) as path:
        save_file({name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}, path)
    write_json(folder / RECORD, {**record, "sha256": file_sha256(folder / WEIGHTS)})


def has_classifier(folder: Path) -> bool:
    """Whether a training has finished one there."""
    return (folder / RECORD).is_file()


def load_classifier(folder: Path, model: dict[str, Any]) -> NoisyClassifier:
    """Read what `save_classifier` wrote, on the CPU, in evaluation mode.

    model: the content of the diffusion model's `model.json`. Raises `UsageError` where there is no classifier, for a damaged one, and
    for one of other latents or users than the model's.
    """
    again = "train it with `relatent spectrogram train … --classifier_steps N` in that folder"
    if not has_classifier(folder):
        raise UsageError(f"{folder} has no classifier; {again}, or leave out --classifier_scale")
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        for name in SAME:
            if record[name] != model[name]:
                raise UsageError(f"{folder / RECORD} is of another {name} than the model; {again} anew")
        users = model["settings"]["num_users"]
        if record["num_users"] != users or record["sha256"] != file_sha256(folder / WEIGHTS):
            raise UsageError(
                f"{folder / RECORD} is of other users than the model's {users}, or of other weights; {again} anew"
            )
        classifier = build_classifier(record["latent_shape"][0], users, 0)
        classifier.load_state_dict(load_file(folder / WEIGHTS))
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"{folder / WEIGHTS} is damaged ({' '.join(str(error).split())[:200]}); {again} anew"
        ) from error
    if not all(tensor.isfinite().all() for tensor in classifier.state_dict().values()):
        raise UsageError(f"{folder / WEIGHTS} has weights that are not finite; {again} anew")
    return classifier.eval().requires_grad_(False)
