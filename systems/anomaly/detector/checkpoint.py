"""A trained detector's file."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path
from .network import UNet3D
from .settings import DetectorSettings

KIND, SCHEMA = "relatent anomaly detector", 1
RESULT, STATE = "detector.ckpt", "training.ckpt"  # in the folder of a training: what it gave, and where it is


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """network: on the processor, in evaluation mode. scale: what error maps are divided by before it.

    base: the identity of the `Mapper` whose maps it was trained with. patients: those of training and validation. history: a line
    for each epoch.
    """

    network: UNet3D
    settings: DetectorSettings
    scale: float
    base: dict[str, Any]
    patients: list[str]
    history: list[dict[str, Any]]


def save(path: Path, contents: dict[str, Any]) -> None:
    """Write a checkpoint of a training, which appears when it is complete."""
    with atomic_path(path) as temporary:
        torch.save({"kind": KIND, "schema": SCHEMA, **contents}, temporary)


def read(path: Path) -> dict[str, Any]:
    """What `save` wrote. Nothing in the file is executed. Raises `UsageError` where it cannot be read or is another thing."""
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
        if contents["kind"] != KIND or contents["schema"] != SCHEMA:
            raise ValueError(f"it is of kind {contents['kind']!r}, schema {contents['schema']!r}")
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} cannot be read as a detector: {reason}") from None
    return dict(contents)


def load_detector(path: Path) -> TrainedDetector:
    """The detector in a file. Raises `UsageError` where it cannot be read."""
    contents = read(path)
    try:
        settings = DetectorSettings.of(contents["settings"])
        network = UNet3D(settings.channels)
        network.load_state_dict(contents["network"])
        about = contents["scale"], contents["base"], contents["patients"], contents["history"]
    except (KeyError, TypeError, RuntimeError) as error:
        raise UsageError(f"{path} is damaged: {str(error).splitlines()[-1]}") from None
    return TrainedDetector(network.eval(), settings, *about)
