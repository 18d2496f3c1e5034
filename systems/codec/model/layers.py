"""The few layers that the networks are made of.

Only layers whose fixed-point form is exact are used: convolutions, a leaky rectifier whose slope is a power of two, pixel
shuffling and residual sums.
"""

from torch import Tensor, nn

SLOPE = 0.125


class Residual(nn.Module):
    """x + body(x), of the same channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(channels, channels, 3), rectifier(), convolution(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.body(x)
        return result


def rectifier() -> nn.LeakyReLU:
    return nn.LeakyReLU(SLOPE)


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Keeps the size, divided by the stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def upsampling(inputs: int, outputs: int) -> list[nn.Module]:
    """Twice the height and width."""
    return [convolution(inputs, 4 * outputs, 3), nn.PixelShuffle(2)]


def analysis(widths: tuple[int, int, int], latent_channels: int) -> nn.Sequential:
    """(B, 3, H, W) -> (B, latent_channels, H/16, W/16)."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((3, *widths), widths, strict=False):
        layers += [convolution(inputs, outputs, 5, 2), rectifier(), Residual(outputs)]
    return nn.Sequential(*layers, convolution(widths[-1], latent_channels, 3, 2))


def synthesis(widths: tuple[int, int, int], latent_channels: int) -> nn.Sequential:
    """(B, latent_channels, h, w) -> (B, 3, 16h, 16w)."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((latent_channels, *widths[:0:-1]), widths[::-1], strict=True):
        layers += [*upsampling(inputs, outputs), rectifier(), Residual(outputs)]
    return nn.Sequential(*layers, *upsampling(widths[0], 3))


def hyper_analysis(latent_channels: int, hyper_channels: int) -> nn.Sequential:
    """(B, latent_channels, h, w) -> (B, hyper_channels, h/4, w/4)."""
    return nn.Sequential(
        convolution(latent_channels, hyper_channels, 3),
        rectifier(),
        convolution(hyper_channels, hyper_channels, 5, 2),
        rectifier(),
        convolution(hyper_channels, hyper_channels, 5, 2),
    )


def hyper_synthesis(hyper_channels: int, feature_channels: int) -> nn.Sequential:
    """(B, hyper_channels, h/4, w/4) -> (B, feature_channels, h, w)."""
    return nn.Sequential(
        *upsampling(hyper_channels, hyper_channels),
        rectifier(),
        *upsampling(hyper_channels, hyper_channels),
        rectifier(),
        convolution(hyper_channels, feature_channels, 3),
    )


def entropy_parameters(inputs: int, width: int, latent_channels: int, kernel: int) -> nn.Sequential:
    """(B, inputs, h, w) -> (B, 2 * latent_channels, h, w): the mean, then the level of the scale before `levels_of`."""
    return nn.Sequential(
        convolution(inputs, width, kernel),
        rectifier(),
        convolution(width, width, 1),
        rectifier(),
        convolution(width, 2 * latent_channels, 1),
    )
