"""Metric learning: an embedding in which pictures of one user are near each other, and a prototype per user."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .fitting import FitSettings, fit, run
from .network import SpectrogramNet, make_network
from .pictures import PictureSet
from .trained_on import TrainedOn, check_users

EMBEDDING = 64
PER_USER = 4  # pictures of a user in a batch, so that each has a partner
TEMPERATURE = 0.1  # of the cosines


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
    """Train, load, or go on with, the embedding in `file`, by `contrastive_loss`. Raises `UsageError` as the classifier."""
    check_users(pictures, settings.num_users)
    network = make_network(EMBEDDING, settings.seed + 1)
    # without it all outputs are near one vector at first: 20 % of simulated held-out pictures after 12 epochs, with it 92 %
    network.head.append(nn.BatchNorm1d(EMBEDDING, affine=False))
    fit(network, pictures, pictures.users, contrastive_loss, user_batches, settings, file, on_epoch)
    return Prototypes(network, pictures, settings.num_users)


def contrastive_loss(outputs: Tensor, users: Tensor) -> Tensor:
    """The supervised contrastive loss (arXiv 2004.11362, equation 2) of outputs (B, 64), brought to length 1; each user is there twice or more."""
    unit = functional.normalize(outputs, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool)
    logits = (unit @ unit.T / TEMPERATURE).masked_fill(itself, -torch.inf)
    partners = (users[:, None] == users[None]) & ~itself
    log_share = logits - logits.logsumexp(1, keepdim=True)
    of_partners = log_share.masked_fill(~partners, 0.0).sum(1) / partners.sum(1)
    return -of_partners.mean()


def user_batches(labels: Tensor, settings: FitSettings, generator: torch.Generator) -> list[Tensor]:
    """As many batches as the pictures fill, each of `PER_USER` pictures of up to half as many users as `batch_size`."""
    own = [(labels == user).nonzero()[:, 0] for user in labels.unique().tolist()]
    groups = min(len(own), max(2, settings.batch_size // 2))
    batches = []
    for _ in range(max(1, len(labels) // (groups * PER_USER))):
        users = torch.randperm(len(own), generator=generator)[:groups].tolist()
        picks = [own[user][torch.randperm(len(own[user]), generator=generator)[:PER_USER]] for user in users]
        batches.append(torch.cat(picks))
    return batches
