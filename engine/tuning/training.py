"""The tuning of an encoder E for a frozen decoder D: AdamW on crops x, with a checkpoint from which it goes on.

What is minimised is the mean over crops of ln ‖D(E(x)) − x‖²: the logarithm gives each crop the same weight, in decibels.
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..autoencoders.autoencoder import Autoencoder
from ..calibration.cache import read_tensors, write_tensors
from ..errors import RunStoppedError, UsageError
from ..losses.metrics import from_uint8, psnr
from .settings import TuningSettings
from .tuned_encoder import encoder_module, part_hashes

SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_CHECKPOINTS = 10.0, 60.0
DB_PER_LOG = 4.342944819032518  # 10 / ln 10
MOST_SKIPPED = 20  # steps in a row whose gradient is not finite

OnLine = Callable[[str], None]


class Crops(Protocol):
    """What an encoder is tuned on."""

    def sample(self, count: int, side: int, generator: torch.Generator) -> torch.Tensor:
        """Return crops (count, 3, side, side) fp32 in [-1, 1]."""

    def describe(self) -> dict[str, Any]:
        """Return what the crops are taken from, JSON-ready; equal descriptions, equal crops."""


def random_crop(pixels: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Return a square at a random place of a picture, uint8 (H, W, 3), as (3, side, side) fp32 in [-1, 1]."""
    top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in pixels.shape[:2])
    return from_uint8(pixels[top : top + side, left : left + side]).permute(2, 0, 1)


def tune(
    autoencoder: Autoencoder,
    crops: Crops,
    settings: TuningSettings,
    checkpoint: Path | None = None,
    on_line: OnLine = lambda line: None,
) -> nn.Module:
    """Return a copy of the encoder, frozen, tuned for the autoencoder's decoder; the autoencoder is not changed.

    checkpoint: a file that an interrupted tuning with the same arguments goes on from; None: no file. on_line: called with
    a line of text on the progress about every ten seconds. Crops of step n depend on the seed and n alone.
    Raises `UsageError` where there is no encoder with weights, for a crop that is no whole number of latent cells, and
    for the checkpoint of another tuning; `RunStoppedError` where gradients are not finite in 20 steps in a row.
    """
    autoencoder.check_size(settings.crop)
    student = copy.deepcopy(encoder_module(autoencoder)).requires_grad_(True)
    average = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    identity = {**asdict(settings), **part_hashes(autoencoder), "crops": crops.describe()}
    parts = {"student": student, "average": average, "optimizer": optimizer}
    first = _go_on(checkpoint, identity, parts)
    if first:
        on_line(f"going on after step {first} of {settings.steps}")
    learner, decoder = autoencoder.with_encoder(student), autoencoder.loop_decoder("fp32")
    shown = saved = time.monotonic()
    losses: list[float] = []
    skipped = 0
    for step in range(first, settings.steps):
        targets = crops.sample(settings.batch_size, settings.crop, _generator(settings.seed, step)).to(
            autoencoder.device
        )
        optimizer.param_groups[0]["lr"] = settings.rate(step)
        optimizer.zero_grad(set_to_none=True)
        error = (decoder(learner.run_encoder(targets)).float() - targets).square().flatten(1).mean(1)
        loss = error.clamp_min(1e-12).log().mean()
        loss.backward()
        skipped = 0 if _step(optimizer, student) else skipped + 1
        if skipped == MOST_SKIPPED:
            raise RunStoppedError(
                f"the gradient was not finite in {skipped} steps in a row; use a smaller learning rate"
            )
        _update(average, student, min(settings.average, (step + 1) / (step + 10)))
        losses.append(loss.item())
        now = time.monotonic()
        if now - shown >= SECONDS_BETWEEN_LINES or step + 1 == settings.steps:
            rate = (now - shown) / len(losses)
            on_line(
                f"step {step + 1} of {settings.steps}, error {DB_PER_LOG * statistics.mean(losses):.2f} dB, "
                f"{rate:.2f} s a step, {rate * (settings.steps - step - 1) / 60:.0f} min left"
            )
            shown, losses = now, []
        if checkpoint is not None and now - saved >= SECONDS_BETWEEN_CHECKPOINTS:
            _save(checkpoint, identity, step + 1, parts)
            saved = now
    return average


def held_out_gain(autoencoder: Autoencoder, tuned: nn.Module, pictures: Sequence[torch.Tensor]) -> float:
    """Return the mean gain in dB of PSNR, in fp32, of the tuned encoder's latents over the encoder's own, without an iteration.

    pictures: (1, 3, H, W) in [-1, 1] each.
    """
    gains = []
    with torch.no_grad():
        for picture in pictures:
            target = picture.to(autoencoder.device)
            both = (each.encode(target) for each in (autoencoder, autoencoder.with_encoder(tuned)))
            before, after = (psnr(autoencoder.modality.clamp(autoencoder.decode(z)), target).item() for z in both)
            gains.append(after - before)
    return statistics.mean(gains)


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(1_000_003 * seed + step)


def _step(optimizer: torch.optim.Optimizer, student: nn.Module) -> bool:
    """Make a step with the gradient scaled down to norm 1, and return True; False where it is not finite."""
    norm = nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    if not bool(norm.isfinite()):
        return False
    optimizer.step()
    return True


@torch.no_grad()
def _update(average: nn.Module, student: nn.Module, decay: float) -> None:
    for mean, value in zip(average.parameters(), student.parameters(), strict=True):
        mean.lerp_(value, 1.0 - decay)


def _go_on(checkpoint: Path | None, identity: dict[str, Any], parts: dict[str, Any]) -> int:
    """Take up the checkpoint, where there is one, and return the number of steps done."""
    content = None if checkpoint is None else read_tensors(checkpoint)
    if content is None:
        return 0
    if content.get("identity") != identity:
        raise UsageError(
            f"{checkpoint} belongs to a tuning with other settings, data or autoencoder; remove it to start anew"
        )
    for name, part in parts.items():
        part.load_state_dict(content[name])
    return int(content["step"])


def _save(checkpoint: Path, identity: dict[str, Any], step: int, parts: dict[str, Any]) -> None:
    content = {name: part.state_dict() for name, part in parts.items()}
    write_tensors(checkpoint, {"identity": identity, "step": step, **content})
