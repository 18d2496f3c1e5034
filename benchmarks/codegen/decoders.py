"""The decoders whose step can be looked at: their layers, without weights."""

from collections.abc import Callable

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.autoencoders.taef2 import LATENT_CHANNELS, build_decoder
from ..sd_decoder import SDDecoder


def _sd() -> Autoencoder:
    return Autoencoder(SDDecoder(), name="sd", latent_channels=4, downscale_factor=8)


def _taef2() -> Autoencoder:
    return Autoencoder(
        build_decoder(), name="taef2", latent_channels=LATENT_CHANNELS, downscale_factor=8, value_range=(0.0, 1.0)
    )


DECODERS: dict[str, Callable[[], Autoencoder]] = {"sd": _sd, "taef2": _taef2}


def build_autoencoder(name: str) -> Autoencoder:
    """Return the decoder of that name on torch's `meta` device."""
    with torch.device("meta"):
        return DECODERS[name]()
