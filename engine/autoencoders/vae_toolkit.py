"""Stable Diffusion 1.x through vae-toolkit's loader."""

from pathlib import Path

from .autoencoder import Autoencoder
from .catalogue import Entry
from .diffusers import load_folder, quiet, unavailable, wrap_hub


def load_vae_toolkit(entry: Entry, weights: Path | None, token: str | None = None) -> Autoencoder:
    """Load from `weights`, a local folder, where given; else by vae-toolkit. Raises `WeightsUnavailableError`."""
    if weights is not None:
        return load_folder(weights, entry.name)
    import vae_toolkit

    # vae-toolkit 0.1 still names runwayml's repository, which was withdrawn; the entry's is its successor
    config = vae_toolkit.get_model_config(entry.name) | {"repo_id": entry.repository, "subfolder": entry.subfolder}
    vae_toolkit.add_model_config(entry.name, config)
    try:
        with quiet("vae_toolkit.vae_loader", "diffusers.models.modeling_utils"):
            vae, _ = vae_toolkit.VAELoader.load_sd_vae_simple(entry.name, "cpu", token)
    except Exception as error:
        raise unavailable(entry, error) from error
    return wrap_hub(vae, entry)
