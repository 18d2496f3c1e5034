"""The training loop of the validators: one file has its whole state, so a killed one goes on exactly."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path, write_json
from .pictures import PictureSet, scaled
from .trained_on import TrainedOn

NOISE, GAIN = 0.005, 0.05  # of values in [0, 1]: standard deviation, and the largest relative change
BATCH = 256  # of an evaluation


@dataclass(frozen=True)
class FitSettings:
    """How a network is trained. Raises `UsageError` for values that make no training."""

    num_users: int = 31
    resolution: int = 128  # pixels, a multiple of 16
    epochs: int = 24
    batch_size: int = 32
    learning_rate: float = 2e-3  # the largest one: a tenth of the steps up to it, then a cosine down to 0
    weight_decay: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_users", 2), ("resolution", 16), ("epochs", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} is {getattr(self, name)}; give a whole number from {least} on")
        if self.resolution % 16:
            raise UsageError(f"--resolution is {self.resolution}; give a multiple of 16")


# indices of each batch of an epoch, by (labels, settings, generator); the loss of (outputs, labels)
Batches = Callable[[Tensor, FitSettings, torch.Generator], list[Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


def fit(
    network: nn.Module,
    pictures: PictureSet,
    labels: Tensor,
    loss: Loss,
    batches: Batches,
    settings: FitSettings,
    file: Path,
    on_epoch: Callable[[int, float], None] | None = None,
) -> None:
    """Train the network, or load it where `file` has it trained, or go on from `file`'s own epoch.

    labels: (N,) int64, the users' or others. file: FILE.safetensors, beside which FILE.json says what it was trained on; written atomically after
    each epoch. on_epoch: called with the number of epochs done and the mean loss. Raises `UsageError` where the file is of another training.
    """
    record = {"settings": asdict(settings), "labels": labels.tolist(), "trained_on": TrainedOn.of(pictures).asdict()}
    record = json.loads(json.dumps(record))  # as it is read again
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    begin = _load(file, record, network, optimizer)
    steps = len(batches(labels, settings, _generator(settings, 0)))
    for epoch in range(begin, settings.epochs):
        generator = _generator(settings, epoch)
        total, network_mode = 0.0, network.train()
        for step, index in enumerate(batches(labels, settings, generator)):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate((epoch * steps + step + 0.5) / (settings.epochs * steps))
            value = loss(network_mode(augmented(pictures.images[index], generator)), labels[index])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item()
        _save(file, record, network, optimizer, epoch + 1)
        if on_epoch is not None:
            on_epoch(epoch + 1, total / steps)
    network.eval()


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (B, 3, R, R) to fp32 in [−1, 1], with a gain and noise; no geometric change."""
    unit = images.float() / 255.0
    gain = 1.0 + GAIN * (2.0 * torch.rand(len(unit), 1, 1, 1, generator=generator) - 1.0)
    noise = NOISE * torch.randn(unit.shape, generator=generator)
    return (unit * gain + noise).clamp(0.0, 1.0) * 2.0 - 1.0


def shuffled_batches(labels: Tensor, settings: FitSettings, generator: torch.Generator) -> list[Tensor]:
    """Each picture once."""
    return list(torch.randperm(len(labels), generator=generator).split(settings.batch_size))


@torch.inference_mode()
def run(function: Callable[[Tensor], Tensor], pictures: PictureSet) -> Tensor:
    """The function of all pictures in [−1, 1], (N, …) fp32."""
    return torch.cat([function(scaled(part)) for part in pictures.images.split(BATCH)])


def _rate(progress: float) -> float:
    return min(1.0, progress / 0.1) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _generator(settings: FitSettings, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(settings.seed * 100_003 + epoch)


def _save(file: Path, record: dict[str, Any], network: nn.Module, optimizer: Any, epochs: int) -> None:
    """Weights, and until the last epoch the moments of Adam."""
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    if epochs < record["settings"]["epochs"]:
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value.contiguous() for name, value in state.items()}
    if epochs == 1 or not file.with_suffix(".json").is_file():
        write_json(file.with_suffix(".json"), record)
    with atomic_path(file) as temporary:
        save_file(tensors, temporary, {"epochs": str(epochs)})


def load_fitted(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The content of FILE.json of a finished training, and the weights. Raises `UsageError` where there is none."""
    record, epochs, tensors = _read(file)
    if epochs < record["settings"]["epochs"]:
        raise UsageError(f"{file} is of a training that was stopped; let it go on first")
    return record, _weights(tensors)


def _read(file: Path) -> tuple[dict[str, Any], int, dict[str, Tensor]]:
    try:
        record = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        with safe_open(file, "pt") as opened:
            epochs = int(opened.metadata()["epochs"])
        return record, epochs, load_file(file)
    except Exception as error:  # safetensors raises classes of its own
        raise UsageError(f"{file} cannot be read ({error}); remove it, and it is trained anew") from None


def _weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[8:]: value for name, value in tensors.items() if name.startswith("network.")}


def _load(file: Path, record: dict[str, Any], network: nn.Module, optimizer: Any) -> int:
    """Load what was saved, and return the number of epochs done."""
    if not file.is_file():
        return 0
    other, epochs, tensors = _read(file)
    if different := [key for key in record if other.get(key) != record[key]]:
        raise UsageError(f"{file} was trained with other {different[0]}; remove it, or choose another --output_dir")
    network.load_state_dict(_weights(tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return epochs
