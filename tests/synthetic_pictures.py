"""Pictures of gradients, stripes and noise, of any size."""

import torch


def picture_of(height: int, width: int, seed: int) -> torch.Tensor:
    """(3, height, width) uint8."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(height) / 40, torch.arange(width) / 25, indexing="ij")
    phases = torch.rand(3, 1, 1, generator=generator) * 6
    waves = torch.sin(rows * (1 + seed % 3) + columns + phases) * 90 + (columns > rows) * 40
    noise = torch.randn(3, height, width, generator=generator) * 8
    return (waves + noise + 110).clamp(0, 255).to(torch.uint8)
