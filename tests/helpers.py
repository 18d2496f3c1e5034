"""What several tests make: a small model, a picture."""

import io
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from relatent import load_autoencoder
from relatent.engine.loop_decoder import LoopDecoder
from relatent.engine.optimization.loop import Loop
from relatent.engine.optimization.slots import Slots

# torch.optim.Adam on the latents themselves
PLAIN = {"precondition": False, "beta_rise": 0, "relative_eps": 0.0, "warm_start": 0, "gradient_error": 0.0}


def run_loop(decode, latents, targets, config, dtype):
    """`latents` against `targets` until all images are done; the slots as they then are."""
    decoder = decode if isinstance(decode, LoopDecoder) else LoopDecoder.of(decode, dtype)
    loop = Loop(decoder, config, latents, targets)
    loop.load(list(range(latents.shape[0])), latents, targets)
    loop.complete()
    return loop.slots


def small_kl(seed: int = 0, **changes):
    """An AutoencoderKL with random weights: 4 channels, factor 8, a few thousand parameters."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    settings = dict(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 8, 8, 8),
        norm_num_groups=2,
        layers_per_block=1,
        latent_channels=4,
        sample_size=32,
        scaling_factor=0.3,
    )
    return AutoencoderKL(**(settings | changes))


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth colours and a few edges, uint8 (height, width, 3), full range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(3, 20) + y / rng.uniform(3, 20) + rng.uniform(0, 6)) for _ in range(3)]
    image = np.stack(waves, -1) * 127.5 + 127.5
    image[height // 4 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    image[0, 0], image[0, 1] = 0, 255
    return image.astype(np.uint8)


def save_pictures(folder: Path, count: int) -> None:
    """Make `folder` with that many pictures, 0.png, 1.png and so on."""
    folder.mkdir()
    for seed in range(count):
        Image.fromarray(picture(seed=seed)).save(folder / f"{seed}.png")


def flip(path: Path, column: str, sample: int) -> None:
    """Turn one bit of a sample in an HDF5 file over."""
    with h5py.File(path) as file:
        offset = file[column].id.get_chunk_info(sample).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 5] ^= 16
    path.write_bytes(content)


def started(vae, targets, config, dtype=torch.float32):
    latents = vae.encode(targets)
    slots = Slots.empty(latents, targets, config, dtype)
    slots.load(list(range(len(targets))), latents, targets, config)
    return slots


def assert_same(found: Slots, expected: Slots, tolerance: float = 1e-4) -> None:
    for name in Slots.names():
        torch.testing.assert_close(
            getattr(found, name).detach(), getattr(expected, name).detach(), rtol=tolerance, atol=tolerance,
            equal_nan=True, msg=lambda text, name=name: f"{name}: {text}",
        )  # fmt: skip


class Memory:
    """How many images fit at once. Copies of a decoder share it."""

    def __init__(self, most):
        self.most = most

    def __deepcopy__(self, _):
        return self


class Limited(torch.nn.Module):
    """A decoder that runs out of memory as CUDA's allocator does, for more than `memory.most` images at once."""

    def __init__(self, vae, memory):
        super().__init__()
        self.decoder, self.memory = vae.decoder, memory

    def forward(self, latents):
        if len(latents) > self.memory.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.decoder(latents)


def limited(vae, most):
    """most: images at once, a number or a `Memory` that changes on the way."""
    decoder = Limited(vae, most if isinstance(most, Memory) else Memory(most))
    return load_autoencoder(decoder, encoder=vae.encoder, latent_channels=4, downscale_factor=8, name="limited")


def bad_files(folder):
    """name -> words of the reason."""
    (folder / "text.png").write_text("this is no image")
    (folder / "empty.jpg").write_bytes(b"")
    buffer = io.BytesIO()
    Image.fromarray(picture(200, 200)).save(buffer, "JPEG")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    buffer = io.BytesIO()
    Image.fromarray(picture(200, 200)).save(buffer, "PNG")
    (folder / "truncated.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    Image.new("1", (12_000, 12_000)).save(folder / "bomb.png")  # a few kB, 144 MP
    Image.new("1", (20_000, 20_000)).save(folder / "bigger-bomb.png")  # 400 MP, where Pillow itself refuses
    Image.fromarray(picture(200, 200)[:5, :7]).save(folder / "small.png")
    (folder / "folder.png").mkdir()
    return {
        "text.png": "no image",
        "empty.jpg": "no image",
        "truncated.jpg": "truncated",
        "truncated.png": "truncated",
        "bomb.png": "12000×12000 pixels, over the limit",
        "bigger-bomb.png": "too large",
        "small.png": "expected at least 8×8.*found 7×5",
        "folder.png": "unreadable",
        "missing.png": "No such file",
    }
