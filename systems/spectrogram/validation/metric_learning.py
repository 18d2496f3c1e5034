"""Metric learning: an embedding in which pictures of one user are near each other, and a prototype per user."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .fitting import FitSettings, fit, run
from .network import SpectrogramNet, make_network
from .pictures import PictureSet
from .trained_on import TrainedOn, check_users

EMBEDDING = 64
PER_USER = 4  # pictures of a user in a batch, so that each has a partner
MARGIN = 0.2  # of squared distances between unit vectors, which are up to 4


class Prototypes:
    """An embedding network that was trained on its own, with the mean embedding of each user."""

    def __init__(self, network: SpectrogramNet, pictures: PictureSet, num_users: int) -> None:
        self.network, self.trained_on = network, TrainedOn.of(pictures)
        embedded = torch.from_numpy(self.embed(pictures))
        means = torch.stack([embedded[pictures.users == user].mean(0) for user in range(num_users)])
        self.prototypes = functional.normalize(means, dim=1)  # (U, 64)

    def embed(self, pictures: PictureSet) -> np.ndarray:
        """Unit vectors, (N, 64) fp32."""
        return run(lambda images: functional.normalize(self.network(images), dim=1), pictures).numpy()

    def success(self, pictures: PictureSet) -> float:
        """The share of pictures whose nearest prototype is their user's. Raises `UsageError` for training pictures."""
        self.trained_on.refuse(pictures)
        nearest = (torch.from_numpy(self.embed(pictures)) @ self.prototypes.T).argmax(1)
        return float((nearest == pictures.users).float().mean())


def train_prototypes(
    pictures: PictureSet, settings: FitSettings, file: Path, on_epoch: Callable[[int, float], None] | None = None
) -> Prototypes:
    """Train, load, or go on with, the embedding in `file`, by `triplet_loss`. Raises `UsageError` as the classifier."""
    check_users(pictures, settings.num_users)
    network = make_network(EMBEDDING, settings.seed + 1)
    fit(network, pictures, pictures.users, triplet_loss, user_batches, settings, file, on_epoch)
    return Prototypes(network, pictures, settings.num_users)


def triplet_loss(outputs: Tensor, users: Tensor) -> Tensor:
    """Mean of softplus(d(a, p) − d(a, n) + MARGIN) over anchors a, with p and n as in "batch hard" (arXiv 1703.07737).

    p: the farthest of the anchor's user, n: the nearest of the others; d: squared distances of the outputs (B, 64) brought to length 1.
    """
    unit = functional.normalize(outputs, dim=1)
    distances = 2.0 - 2.0 * unit @ unit.T
    same = users[:, None] == users[None]
    positive = distances.masked_fill(~same, -1.0).amax(1)
    negative = distances.masked_fill(same, 5.0).amin(1)
    return functional.softplus((positive - negative + MARGIN) / 0.2).mean()


def user_batches(labels: Tensor, settings: FitSettings, generator: torch.Generator) -> list[Tensor]:
    """As many batches as the pictures fill, each of `PER_USER` pictures of some users; each user as often as others."""
    own = [(labels == user).nonzero()[:, 0] for user in labels.unique().tolist()]
    groups = max(2, min(len(own), settings.batch_size // PER_USER))
    batches = []
    for _ in range(max(1, len(labels) // (groups * PER_USER))):
        users = torch.randperm(len(own), generator=generator)[:groups].tolist()
        picks = [own[user][torch.randperm(len(own[user]), generator=generator)[:PER_USER]] for user in users]
        batches.append(torch.cat(picks))
    return batches
