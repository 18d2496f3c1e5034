"""The sizes that a codec comes in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CodecConfiguration:
    """Channel counts. The latent y is 1/16 of the picture's height and width, z is 1/64."""

    name: str  # stored with the weights
    widths: tuple[int, int, int]  # of the transforms at 1/2, 1/4 and 1/8 of the picture
    latent_channels: int  # of y
    hyper_channels: int  # of z
    feature_channels: int  # of what z says about y, at y's resolution
    context_channels: int  # inside the networks that give each scale's mean and scale


CONFIGURATIONS = {
    configuration.name: configuration
    for configuration in (
        CodecConfiguration("small", (32, 48, 64), 96, 32, 64, 64),
        CodecConfiguration("HPCM_Base", (192, 256, 320), 320, 192, 320, 640),
        CodecConfiguration("HPCM_Large", (256, 320, 384), 320, 256, 512, 1024),
    )
}
