"""The four weak losses of the detector.

logits: (B, 1, D, H, W) floats, whose sigmoid is P. inside: booleans of the same shape, the labelled region; false everywhere in
normal volumes. kind: of the labels, `boxes` or `slices`. Each loss has one value a volume, (B,), with finite gradients; where it
does not apply it is 0 without a gradient.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from .settings import DetectorSettings

NAMES = ("outside", "inside", "margin", "similarity")  # L1 to L4
_NOWHERE = -1e4  # a logit of probability 0, whose gradient is finite


def outside_loss(logits: Tensor, inside: Tensor) -> Tensor:
    """L1 = BCE(P_out, 0), the mean over the voxels outside: nothing is found where no anomaly is. Normal volumes are all outside."""
    outside = ~inside
    return _sum(softplus(logits) * outside) / _sum(outside).clamp_min(1)


def inside_loss(logits: Tensor, inside: Tensor, kind: str) -> Tensor:
    """L2 = BCE(mean P_in, 1) for boxes, BCE(max P_in, 1) for slices: something is found inside. Not for normal volumes."""
    found = logits.masked_fill(~inside, _NOWHERE).flatten(1)
    if kind == "slices":
        loss = softplus(-found.amax(1))
    else:  # -log of the mean of sigmoids, which never becomes log 0
        loss = _sum(inside).clamp_min(1).log() - logsigmoid(found).logsumexp(1)
    return torch.where(inside.flatten(1).any(1), loss, 0.0)


def margin_loss(logits: Tensor, inside: Tensor, kind: str, margin: float) -> Tensor:
    """L3 = max(0, P_out - P_in + m), with the means of both for boxes and their maxima for slices: inside stands out.

    Not for normal volumes, and not where the region is the whole volume.
    """
    inner, outer = (_level(logits, region, kind) for region in (inside, ~inside))
    applies = inside.flatten(1).any(1) & ~inside.flatten(1).all(1)
    return torch.where(applies, (outer - inner + margin).clamp_min(0), 0.0)


def similarity_loss(logits: Tensor, error: Tensor, inside: Tensor) -> Tensor:
    """L4 = |P - norm(E)|, the mean over all voxels: the anomaly has the shape that the error map shows.

    error: maps E of the same shape, from 0 on. Not for normal volumes: norm(E) has a 1 in each of them, where P is to be 0.
    """
    difference = (logits.sigmoid() - normalise(error)).abs().flatten(1).mean(1)
    return torch.where(inside.flatten(1).any(1), difference, 0.0)


def normalise(error: Tensor) -> Tensor:
    """norm(E): each volume's map over its largest value, in [0, 1]; a map of zeros stays as it is."""
    largest = error.flatten(1).amax(1).view(-1, 1, 1, 1, 1)
    return error / torch.where(largest > 0, largest, 1.0)


def weak_losses(logits: Tensor, inside: Tensor, error: Tensor, settings: DetectorSettings) -> Tensor:
    """L1 to L4 of each volume, not weighted: (4, B)."""
    return torch.stack(
        [
            outside_loss(logits, inside),
            inside_loss(logits, inside, settings.labels),
            margin_loss(logits, inside, settings.labels, settings.margin),
            similarity_loss(logits, error, inside),
        ]
    )


def total_loss(losses: Tensor, settings: DetectorSettings) -> Tensor:
    """Σ λᵢ Lᵢ, the mean over the volumes of (4, B) losses: a scalar. settings: with weights."""
    assert settings.weights is not None
    return (losses.mean(1) * losses.new_tensor(settings.weights)).sum()


def _level(logits: Tensor, region: Tensor, kind: str) -> Tensor:
    """The mean or the maximum of P over the region: (B,)."""
    if kind == "slices":
        return logits.masked_fill(~region, _NOWHERE).flatten(1).amax(1).sigmoid()
    return _sum(logits.sigmoid() * region) / _sum(region).clamp_min(1)


def _sum(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)
