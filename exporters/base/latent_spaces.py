"""The latent spaces of diffusion models, told from the stored identity of an autoencoder.

Trainers name and scale latents by the model that they train. The spaces here are those of `docs/exports.md`; a new one is
a line in `SPACES`.
"""

import math
from dataclasses import dataclass
from typing import Any

from ...engine.autoencoders.scaling import identity_scaling


@dataclass(frozen=True)
class LatentSpace:
    """The latents of one autoencoder, which several diffusion models may share."""

    name: str
    models: str  # that are trained on it, for messages
    channels: int
    downscale: int  # pixels per latent cell
    kind: str  # of scaling, see `engine/autoencoders/scaling.py`
    factor: float | None = None  # of the scaling; None: any
    word: str = ""  # that the autoencoder's name or repository must hold

    def fits(self, vae: dict[str, Any]) -> bool:
        """Return whether an autoencoder of this identity makes such latents."""
        return (
            vae["latent_channels"] == self.channels
            and vae["downscale_factor"] == self.downscale
            and identity_scaling(vae).kind == self.kind
            and (self.factor is None or math.isclose(vae["scaling_factor"], self.factor))
            and self.word in described(vae)
        )


SPACES = (
    LatentSpace("sd", "Stable Diffusion 1.x, 2.x", 4, 8, "factor", 0.18215),
    LatentSpace("sdxl", "Stable Diffusion XL", 4, 8, "factor", 0.13025),
    LatentSpace("sd3", "Stable Diffusion 3", 16, 8, "factor", 1.5305),
    LatentSpace("flux", "FLUX.1, Z-Image, Chroma, Lumina 2", 16, 8, "factor", 0.3611),
    LatentSpace("flux2", "FLUX.2", 32, 8, "batch_norm"),
    LatentSpace("wan21", "Wan 2.1", 16, 8, "channels", word="wan"),  # with the statistics of the next, other weights
    LatentSpace("qwen", "Qwen-Image, Krea 2, Anima", 16, 8, "channels"),
    LatentSpace("hunyuan-image", "HunyuanImage 2.1", 64, 32, "factor"),
    LatentSpace("sana", "Sana", 32, 32, "factor"),
)
MODELS = {space.name: space.models for space in SPACES}


def latent_space(vae: dict[str, Any]) -> str | None:
    """Return the name of the latent space of an autoencoder with this identity; None if it is none of these."""
    return next((space.name for space in SPACES if space.fits(vae)), None)


def described(vae: dict[str, Any]) -> str:
    """Return name and repository of an autoencoder in lower case, in which a model's name may occur."""
    return f"{vae['name']} {vae['repository'] or ''}".casefold()
