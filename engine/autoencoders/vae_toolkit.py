"""Stable Diffusion 1.x through vae-toolkit's loader."""

from pathlib import Path

from ..errors import UsageError
from .autoencoder import Autoencoder
from .catalogue import Entry
from .diffusers import check_reachable, load_weights, unavailable, wrap_hub
from .files.quiet import quiet, warned


def load_vae_toolkit(
    entry: Entry, weights: Path | None, token: str | None = None, *, clips: bool = False
) -> Autoencoder:
    """Load from `weights`, a local folder, where given; else by vae-toolkit.

    Raises `WeightsUnavailableError` where they cannot be had, `UsageError` where they are not all there.
    """
    if weights is not None:
        return load_weights(weights, entry, clips=clips)
    check_reachable(entry, token)
    import vae_toolkit

    # vae-toolkit 0.1 still names runwayml's repository, which was withdrawn; the entry's is its successor
    config = vae_toolkit.get_model_config(entry.name) | {"repo_id": entry.repository, "subfolder": entry.subfolder}
    vae_toolkit.add_model_config(entry.name, config)
    failure: Exception | None = None
    with warned("diffusers.models.modeling_utils") as warnings, quiet("vae_toolkit.vae_loader"):
        try:
            vae, _ = vae_toolkit.VAELoader.load_sd_vae_simple(entry.name, "cpu", token)
        except Exception as error:
            failure = error
    # looked at first: beside accelerate, missing weights are a failure later, which does not name them
    faults = [" ".join(line.split())[:300] for line in warnings if line.startswith("Some weights of")]
    if faults:
        raise UsageError(
            f"the weights of {entry.repository} are not all of this autoencoder and nothing else: {faults[0]}"
        ) from failure
    if failure is not None:
        raise unavailable(entry, failure) from failure
    return wrap_hub(vae, entry, entry.subfolder, clips=clips)
