"""A small convolutional network of spectrograms, of which the validators are made."""

import torch
from torch import Tensor, nn

WIDTHS = (32, 64, 96, 128)
BANDS = 4  # of the Doppler axis that are kept apart where time is averaged out
FEATURES = 64


class SpectrogramNet(nn.Module):
    """(B, 3, R, R) fp32 in [−1, 1], R a multiple of 16, to (B, outputs); rows are Doppler frequencies, columns time.

    Four convolutions of stride 2 with a residual one after the last two. Then the mean over time in each of `BANDS` bands: who walks is a matter
    of speeds, not of the phase at which the picture begins. `features` are the penultimate values, (B, 64). 0.45 million parameters.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = 3
        for i, width in enumerate(WIDTHS):
            stages += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            stages += [Residual(width)] if i >= 2 else []
            before = width
        self.body = nn.Sequential(*stages)
        self.project = nn.Linear(before * BANDS, FEATURES)
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(FEATURES, outputs))

    def features(self, images: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(self.body(images), (BANDS, 1))
        projected: Tensor = self.project(pooled.flatten(1))
        return projected

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.features(images))
        return outputs


class Residual(nn.Module):
    """x + SiLU(GroupNorm(convolution(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


def make_network(outputs: int, seed: int) -> SpectrogramNet:
    """With initial weights drawn by the seed; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpectrogramNet(outputs)
