"""Application of a weight map to a loss."""

import torch


def weighted_mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return Σ w·v / Σ w over channels and pixels, (B,), of values (B, C, *spatial).

    weight: (B, 1, *spatial) of mean 1 per image, or None for a plain mean.
    """
    return (values if weight is None else weight * values).flatten(1).mean(1)


def blend(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return `decoded` where the weight has its maximum, `target` where it is 0, and their linear interpolation in
    between.

    For losses that are not a mean over pixels: pixels of weight 0 then equal the target and contribute no error.
    """
    if weight is None:
        return decoded
    share = weight / weight.amax(tuple(range(1, weight.ndim)), keepdim=True)
    return target + share * (decoded - target)
