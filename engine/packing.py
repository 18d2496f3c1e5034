"""Several latents per sample in one buffer, as the optimisation loop takes them."""

import math

import torch

from .errors import UsageError


class Packing:
    """Named parts of given shapes, without the batch, laid out one after the other in a buffer (B, 1, N).

    The second axis is there for what treats latents as (B, C, *spatial), regularisers for example.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]]):
        self.shapes = dict(shapes)
        self.sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}

    def pack(self, parts: dict[str, torch.Tensor]) -> torch.Tensor:
        """Parts (B, *shape) -> the buffer (B, 1, N). Raises `UsageError` for parts that are missing or of another shape."""
        for name, shape in self.shapes.items():
            found = tuple(parts[name].shape[1:]) if name in parts else None
            if found != shape:
                raise UsageError(f"latents: expected the part {name!r} of shape {shape} per sample, found {found}")
        return torch.cat([parts[name].flatten(1) for name in self.shapes], 1).unsqueeze(1)

    def unpack(self, buffer: torch.Tensor) -> dict[str, torch.Tensor]:
        """The buffer (B, 1, N) -> its parts as views (B, *shape). Raises `UsageError` for another N."""
        if buffer.shape[-1] != sum(self.sizes.values()):
            raise UsageError(f"latents: expected {sum(self.sizes.values())} packed values, found {buffer.shape[-1]}")
        pieces = buffer.flatten(1).split(list(self.sizes.values()), 1)
        return {
            name: piece.unflatten(1, shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def fill(self, values: dict[str, float], device: torch.device | None = None) -> torch.Tensor:
        """(1, 1, N) fp32 with one number for all values of each part: the scales of `ScaledCoordinates`, for example."""
        parts = [torch.full((1, 1, size), float(values[name]), device=device) for name, size in self.sizes.items()]
        return torch.cat(parts, 2)
