"""Stable Diffusion 1.x through vae-toolkit's loader."""

import logging
from pathlib import Path

from .autoencoder import Autoencoder
from .catalogue import Entry
from .load_diffusers import load_folder, unavailable, wrap_hub


def load_vae_toolkit(entry: Entry, weights: Path | None, token: str | None = None) -> Autoencoder:
    """From `weights`, a local folder, where given; else what vae-toolkit loads. Raises `WeightsUnavailableError`."""
    if weights is not None:
        return load_folder(weights, entry.name)
    import vae_toolkit

    # vae-toolkit 0.1 still names runwayml's repository, which was withdrawn; the entry's is its successor
    config = vae_toolkit.get_model_config(entry.name) | {"repo_id": entry.repository, "subfolder": entry.subfolder}
    vae_toolkit.add_model_config(entry.name, config)
    toolkit_log = logging.getLogger("vae_toolkit.vae_loader")
    level = toolkit_log.level
    toolkit_log.setLevel(logging.CRITICAL)  # it logs the whole exception that is reported below in one line
    try:
        vae, _ = vae_toolkit.VAELoader.load_sd_vae_simple(entry.name, "cpu", token)
    except Exception as error:
        raise unavailable(entry, error) from error
    finally:
        toolkit_log.setLevel(level)
    return wrap_hub(vae.float(), entry)
