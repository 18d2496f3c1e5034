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
_TAEHV = "taehv:load_taehv"
_SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"
_SANA = "Efficient-Large-Model/Sana_1600M_1024px_diffusers"
_RAE = "nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08"
_SD_SCALING, _XL_SCALING, _SD3_SCALING, _FLUX_SCALING = (
    (0.18215, 0.0),
    (0.13025, 0.0),
    (1.5305, 0.0609),
    (0.3611, 0.1159),
)
_GATED = "gated, needs HF_TOKEN"

# fmt: off
_ENTRIES = (
    Entry("tiny", "diffusers:load_bundled", None, None, 4, 8, 256, "bundled; Stable Diffusion's topology in small", 0.17),
    Entry("sd14", _TOOLKIT, "CompVis/stable-diffusion-v1-4", "vae", 4, 8, 512, "Stable Diffusion 1.4", 5.06, _SD_SCALING),
    Entry("sd15", _TOOLKIT, _SD15, "vae", 4, 8, 512, "Stable Diffusion 1.5", 5.06, _SD_SCALING),
    Entry("sd-vae-ft-mse", _HUB, "stabilityai/sd-vae-ft-mse", None, 4, 8, 512, "SD 1.x decoder fine-tuned for MSE", 5.06,
          _SD_SCALING),
    Entry("sdxl", _HUB, "stabilityai/sdxl-vae", None, 4, 8, 1024, "Stable Diffusion XL; fp16 overflows, bf16 does not", 5.06,
          _XL_SCALING),
    Entry("sd3", _HUB, _SD3, "vae", 16, 8, 1024, f"Stable Diffusion 3; {_GATED}", 5.06, _SD3_SCALING),
    Entry("flux", _HUB, "black-forest-labs/FLUX.1-dev", "vae", 16, 8, 1024, f"FLUX.1; {_GATED}", 5.06, _FLUX_SCALING),
    Entry("z-image", _HUB, "Tongyi-MAI/Z-Image-Turbo", "vae", 16, 8, 1024, "Z-Image", 5.06, _FLUX_SCALING),
    Entry("chroma", _HUB, "lodestones/Chroma1-HD", "vae", 16, 8, 1024, "Chroma", 5.06, _FLUX_SCALING),
    Entry("lumina2", _HUB, "Alpha-VLLM/Lumina-Image-2.0", "vae", 16, 8, 1024, "Lumina 2", 5.06, _FLUX_SCALING),
    Entry("flux2", _HUB, "black-forest-labs/FLUX.2-dev", "vae", 32, 8, 1024, f"FLUX.2; {_GATED}", 5.07),
    Entry("flux2-klein", _HUB, "black-forest-labs/FLUX.2-klein-4B", "vae", 32, 8, 1024, "FLUX.2 klein, the same", 5.07),
    Entry("flux2-small", _HUB, "black-forest-labs/FLUX.2-small-decoder", None, 32, 8, 1024, "FLUX.2's small decoder", 2.87),
    Entry("qwen-image", _HUB, "Qwen/Qwen-Image", "vae", 16, 8, 1024, "Qwen-Image, Krea 2, Anima; as one frame", 2.23),
    Entry("qwen-image-layered", _HUB, "Qwen/Qwen-Image-Layered", "vae", 16, 8, 1024, "opaque pictures of its RGBA", 2.23),
    Entry("qwen-image-2.1", _HUB, "Qwen/Qwen-Image-2.1", "vae", 64, 16, 1024, "opaque pictures of its RGBA", 8.49),
    Entry("wan21", _HUB, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "vae", 16, 8, 512, "Wan 2.1, and 2.2 14B; as one frame", 2.23),
    Entry("wan22", _HUB, "Wan-AI/Wan2.2-TI2V-5B-Diffusers", "vae", 48, 16, 704, "Wan 2.2 5B; as one frame", 4.98),
    Entry("hunyuan-image", _HUB, "hunyuanvideo-community/HunyuanImage-2.1-Diffusers", "vae", 64, 32, 2048,
          "HunyuanImage 2.1", 4.24),
    Entry("sana", _HUB, _SANA, "vae", 32, 32, 1024, "Sana, DC-AE f32c32; a point, no distribution", 4.19),
    Entry("asymmetric-x2", _HUB, "cross-attention/asymmetric-autoencoder-kl-x-2", None, 4, 8, 512,
          "a larger decoder for SD 1.x", 32.1),
    Entry("kvae", _HUB, "kandinskylab/KVAE-2D-1.0", "diffusers", 16, 8, 1024, "KVAE 2D 1.0", 7.03),
    Entry("movq", _HUB, "kandinsky-community/kandinsky-2-2-decoder", "movq", 4, 8, 512, "Kandinsky 2.2; a codebook", 4.14),
    Entry("rae-dinov2", _HUB, _RAE, None, 768, 16, 256, "RAE; 256x256 only; needs transformers"),
    Entry("svd", _HUB, "stabilityai/stable-video-diffusion-img2vid-xt", "vae", 4, 8, 576, "as one frame", 6.12),
    Entry("hunyuan-video", _HUB, "hunyuanvideo-community/HunyuanVideo", "vae", 16, 8, 720, "as one frame", 14.81),
    Entry("ltx-video", _HUB, "Lightricks/LTX-Video", "vae", 128, 32, 512, "0.9.0; as one frame", 0.91),
    Entry("cosmos", _HUB, "nvidia/Cosmos-1.0-Diffusion-7B-Text2World", "vae", 16, 8, 704, "as one frame", 1.55),
    Entry("mochi", _HUB, "genmo/mochi-1-preview", "vae", 12, 8, 480, "as one frame", 49.72),
    Entry("cogvideox", _HUB, "THUDM/CogVideoX-5b", "vae", 16, 8, 480, "as one frame", 11.37),
    Entry("easyanimate", _HUB, "alibaba-pai/EasyAnimateV5.1-12b-zh-diffusers", "vae", 16, 8, 512, "as one frame", 14.69),
    Entry("taesd", _HUB, "madebyollin/taesd", None, 4, 8, 512, "tiny, for SD 1.x and 2.x", 0.28),
    Entry("taesdxl", _HUB, "madebyollin/taesdxl", None, 4, 8, 1024, "tiny, for SDXL", 0.28),
    Entry("taesd3", _HUB, "madebyollin/taesd3", None, 16, 8, 1024, "tiny, for SD 3", 0.28),
    Entry("taef1", _HUB, "madebyollin/taef1", None, 16, 8, 1024, "tiny, for FLUX.1", 0.28),
    Entry("taef2", "taef2:load_taef2", "madebyollin/taesd", None, 32, 8, 256, "tiny, for FLUX.2; state dicts, --weights", 0.28),
    Entry("taehv", _TAEHV, "madebyollin/taehv", None, 16, 8, 512, "tiny, for HunyuanVideo; --weights", 0.58),
    Entry("taew2_1", _TAEHV, "madebyollin/taehv", None, 16, 8, 512, "tiny, for Wan 2.1 and Qwen-Image; --weights", 0.58),
    Entry("taew2_2", _TAEHV, "madebyollin/taehv", None, 48, 16, 704, "tiny, for Wan 2.2 5B; --weights", 0.15),
    Entry("taehv1_5", _TAEHV, "madebyollin/taehv", None, 32, 16, 512, "tiny, for HunyuanVideo 1.5; --weights", 0.15),
    Entry("taecvx", _TAEHV, "madebyollin/taehv", None, 16, 8, 480, "tiny, for CogVideoX; --weights", 0.58),
)
# fmt: on
CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
