"""Decoding in overlapping tiles, for pictures whose activations do not fit in memory at once."""

from itertools import pairwise

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import UsageError
from ..loop_decoder import Decode, Decoded
from .shared_norm import set_recording

LEAST_CELLS = 16  # latent cells of a tile's side: below, most of a tile is the overlap and what the decoder sees of it
OVERLAP = 4  # a quarter of a tile's side is shared with the next one


def decode_in_tiles(run: Decode, tile: int, cell: int, module: nn.Module | None = None) -> Decode:
    """Return a decoder of 2-D latents (B, C, h, w) that decodes tiles of `tile` pixels and blends them.

    Tiles overlap by a quarter; across the middle half of an overlap the weight of one falls linearly while that of the
    other rises. A tile's activations are recomputed for its gradient, so that memory holds those of one tile at a time.
    GroupNorms of `module` that are `SharedGroupNorm`s take the statistics of the whole picture, decoded without a gradient
    first. What a decoder attends to across the picture is computed for each tile alone: the result differs from `run`'s
    by what `seam_psnr` measures.

    cell: pixels of one latent cell. module: what `run` calls, where it is one. Raises `UsageError` for a tile of less than `LEAST_CELLS` cells.
    """
    side = tile // cell
    if side < LEAST_CELLS:
        raise UsageError(
            f"tile: expected at least {LEAST_CELLS * cell} pixels, {LEAST_CELLS} latent cells, found {tile}"
        )

    def decode(latents: torch.Tensor, step: torch.Tensor) -> Decoded:
        if latents.ndim != 4:
            raise UsageError(
                f"tile: only latents of pictures can be cut into tiles, found shape {tuple(latents.shape)}"
            )
        if module is not None:
            with torch.no_grad():
                set_recording(module, True)
                run(latents, step)
                set_recording(module, False)
        rows, columns = (_spans(length, side) for length in latents.shape[2:])
        output, extras = None, []
        for top, bottom in rows:
            for left, right in columns:
                piece = latents[:, :, top:bottom, left:right]
                decoded: Decoded = checkpoint(run, piece, step, use_reentrant=False)
                extras.append(decoded.extra)
                part = decoded.output
                if output is None:
                    output = part.new_zeros(
                        *part.shape[:2], *(length * cell for length in latents.shape[2:]), dtype=torch.float32
                    )
                weight = _ramps(rows, (top, bottom), cell, part)[:, None] * _ramps(columns, (left, right), cell, part)
                place = (..., slice(top * cell, bottom * cell), slice(left * cell, right * cell))
                output[place] += part.float() * weight
        assert output is not None
        extra = None if extras[0] is None else torch.stack([one for one in extras if one is not None]).sum(0)
        return Decoded(output, extra)

    return decode


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    """Return first cell and end of each tile along a side of `length` cells; neighbours share at least a quarter."""
    if length <= side:
        return [(0, length)]
    count = -(-(length - side) // (side - side // OVERLAP)) + 1
    return [(start, start + side) for start in (round(i * (length - side) / (count - 1)) for i in range(count))]


def _ramps(spans: list[tuple[int, int]], span: tuple[int, int], cell: int, like: torch.Tensor) -> torch.Tensor:
    """Return the weight of each pixel of a tile along one side; the weights of all tiles add up to 1."""
    weight = torch.ones((span[1] - span[0]) * cell, device=like.device)
    for (_, end), (start, _) in pairwise(spans):
        shared = (end - start) * cell
        # a tile's edge, where it lacks its surroundings, counts for nothing
        rising = ((torch.arange(shared, device=like.device) + 0.5) / shared * 2 - 0.5).clamp(0, 1)
        if span[0] == start:
            weight[:shared] *= rising
        if span[1] == end:
            weight[-shared:] *= 1 - rising
    return weight
