"""How a weight map enters a loss."""

import torch


def weighted_mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """(B, C, *spatial) -> (B,): Σ w·v / Σ w over pixels and channels, `weight` (B, 1, *spatial) having mean 1."""
    return (values if weight is None else weight * values).flatten(1).mean(1)


def blend(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """`decoded` where the weight is at its largest, `target` where it is 0, in between in proportion.

    For losses that are no mean over pixels: what does not count then equals the target.
    """
    if weight is None:
        return decoded
    share = weight / weight.amax(tuple(range(1, weight.ndim)), keepdim=True)
    return target + share * (decoded - target)
