"""The autoencoders known by name. One line each; a new family is one file with a loader function."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """Where an autoencoder is loaded from, and what the loaded one must be."""

    name: str
    loader: str  # "module:function" in this package: (Entry, weights or None, token or None, clips=) -> Autoencoder
    repository: str | None
    subfolder: str | None
    latent_channels: int
    downscale_factor: int
    native_size: int  # pixels; the square side it was trained for
    note: str
    tflop: float | None = (
        None  # of a picture of 512²: forward, and backward to the latent; benchmarks/research/decoder_cost.py
    )
    scaling: tuple[float, float] | None = None  # factor and shift, where a file of the weights alone does not tell


_HUB = "diffusers:load_hub"
_TOOLKIT = "vae_toolkit:load_vae_toolkit"
_SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"
_FLUX = "black-forest-labs/FLUX.1-dev"

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "tiny",
            "diffusers:load_bundled",
            None,
            None,
            4,
            8,
            256,
            "bundled; Stable Diffusion's topology in small",
        ),
        Entry("sd14", _TOOLKIT, "CompVis/stable-diffusion-v1-4", "vae", 4, 8, 512, "Stable Diffusion 1.4"),
        Entry("sd15", _TOOLKIT, _SD15, "vae", 4, 8, 512, "Stable Diffusion 1.5"),
        Entry("sd-vae-ft-mse", _HUB, "stabilityai/sd-vae-ft-mse", None, 4, 8, 512, "SD 1.x decoder fine-tuned for MSE"),
        Entry(
            "sdxl", _HUB, "stabilityai/sdxl-vae", None, 4, 8, 1024, "Stable Diffusion XL; fp16 overflows, bf16 does not"
        ),
        Entry("sd3", _HUB, _SD3, "vae", 16, 8, 1024, "Stable Diffusion 3; gated, needs HF_TOKEN"),
        Entry("flux", _HUB, _FLUX, "vae", 16, 8, 1024, "FLUX.1; gated, needs HF_TOKEN"),
        Entry("taesd", _HUB, "madebyollin/taesd", None, 4, 8, 512, "tiny, for SD 1.x and 2.x"),
        Entry("taesdxl", _HUB, "madebyollin/taesdxl", None, 4, 8, 1024, "tiny, for SDXL"),
        Entry("taesd3", _HUB, "madebyollin/taesd3", None, 16, 8, 1024, "tiny, for SD 3"),
        Entry("taef1", _HUB, "madebyollin/taef1", None, 16, 8, 1024, "tiny, for FLUX.1"),
        Entry(
            "taef2",
            "taef2:load_taef2",
            "madebyollin/taesd",
            None,
            32,
            8,
            256,
            "tiny, for FLUX.2; state dicts, --weights",
        ),
    )
}
