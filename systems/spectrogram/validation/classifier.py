"""The classifier of users: trained on some recordings, tested on others, and only then a judge of generated pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .fitting import FitSettings, fit, load_fitted, run, shuffled_batches
from .network import SpectrogramNet, make_network
from .pictures import PictureSet
from .trained_on import TrainedOn, check_users

ACCEPT = 0.8  # a picture is accepted as its user's where that probability is larger
SMOOTHING = 0.1  # of the labels in the training; `judge` takes it off again
CONTROL_SEED = 1_000_003


class UserClassifier:
    """A trained network and what it was trained on."""

    def __init__(self, network: SpectrogramNet, trained_on: TrainedOn) -> None:
        self.network, self.trained_on = network, trained_on

    def features(self, pictures: PictureSet) -> np.ndarray:
        """The penultimate values, (N, 64) fp64. Training pictures are allowed: this is no judgement."""
        return run(self.network.features, pictures).double().numpy()

    def judge(self, pictures: PictureSet) -> np.ndarray:
        """Probabilities of the users, (N, num_users) fp64, without the smoothing of the labels. Raises `UsageError` for pictures of its training."""
        self.trained_on.refuse(pictures)

        def probabilities(images: Tensor) -> Tensor:
            smoothed = self.network(images).softmax(1)  # (1 − s) p + s / U is what it was taught
            p = (smoothed - SMOOTHING / smoothed.shape[1]).clamp_min(0.0)
            return p / p.sum(1, keepdim=True)

        return run(probabilities, pictures).double().numpy()


def train_classifier(
    pictures: PictureSet,
    settings: FitSettings,
    file: Path,
    shuffle_labels: bool = False,
    on_epoch: Callable[[int, float], None] | None = None,
) -> UserClassifier:
    """Train, load, or go on with, the classifier in `file`, FILE.safetensors.

    shuffle_labels: the control: the same training with the users drawn anew among the pictures, which must end at chance. Raises `UsageError` where
    a user has no picture, or the file is of another training.
    """
    check_users(pictures, settings.num_users)
    labels = pictures.users
    if shuffle_labels:
        generator = torch.Generator().manual_seed(CONTROL_SEED + settings.seed)
        labels = labels[torch.randperm(len(labels), generator=generator)]
    network = make_network(settings.num_users, settings.seed)

    def loss(outputs: Tensor, users: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, users, label_smoothing=SMOOTHING)

    fit(network, pictures, labels, loss, shuffled_batches, settings, file, on_epoch)
    return UserClassifier(network, TrainedOn.of(pictures))


def load_classifier(file: Path) -> UserClassifier:
    """The classifier that was trained in `file`, without its pictures. Raises `UsageError` where there is none, or an unfinished one."""
    record, weights = load_fitted(file)
    network = make_network(record["settings"]["num_users"], 0)
    network.load_state_dict(weights)
    return UserClassifier(network.eval(), TrainedOn.read(record["trained_on"]))


def recognition(probabilities: np.ndarray, users: np.ndarray) -> dict[str, Any]:
    """How often the most probable user is the right one.

    probabilities: (N, U). users: (N,). `accepted` is the share whose own user has more than `ACCEPT`, `accepted_wrong` the share where another one has.
    `confusion` counts pictures, rows being their users.
    """
    guessed, count = probabilities.argmax(1), probabilities.shape[1]
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (users, guessed), 1)
    right, sure = guessed == users, probabilities.max(1) > ACCEPT
    return {
        "accuracy": float(right.mean()),
        "accepted": float((right & sure).mean()),
        "accepted_wrong": float((~right & sure).mean()),
        "accuracy_by_user": {int(user): float(right[users == user].mean()) for user in np.unique(users)},
        "confusion": confusion.tolist(),
    }
