"""Train the bundled `tiny` autoencoder: a small version of the Stable Diffusion VAE's architecture.

    python examples/train_tiny_vae.py STAGE1 --minutes 75                                                 # stopped at 35
    python examples/train_tiny_vae.py STAGE2 --minutes 30 --init STAGE1 --freeze-encoder --lr 1e-3 --seed 1  # stopped at 5
    python examples/train_tiny_vae.py OUT --minutes 10 --init STAGE2 --freeze-encoder --lr 6e-4 --seed 2

The decoder is trained on latents from two sources, mixed in every step: the encoder's own, and latents that Adam has
been optimising against their crop for up to `MAX_AGE` steps (a pool of crops, each with its latents and Adam's moments,
replaced when too old). So it learns to be a good decoder of optimised latents too, which is what it is bundled for. The
later stages freeze the encoder and train the decoder on optimised latents alone.

Data: free-licence photographs from scikit-image's wheel (CC0 or public domain, listed in `PHOTOGRAPHS`) and procedural
images (dead leaves filled with 1/f textures). Nothing is downloaded. OUT receives a diffusers folder (fp16 safetensors)
and `training.json` with the steps, seed, hardware and versions; a run that is killed leaves the last checkpoint.
"""

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

COLOUR_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg")
GREY_PHOTOGRAPHS = ("camera.png", "brick.png", "grass.png", "gravel.png")
PHOTOGRAPHS = COLOUR_PHOTOGRAPHS + GREY_PHOTOGRAPHS
# How often each photograph is drawn (1 if not listed): the sky, the retina and the textures are smooth or uniform,
# everyday scenes are not.
PHOTOGRAPH_WEIGHTS = {
    "hubble_deep_field.jpg": 0.3,
    "retina.jpg": 0.3,
    "brick.png": 0.4,
    "grass.png": 0.4,
    "gravel.png": 0.4,
}

ARCHITECTURE = dict(
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(16, 48, 96, 128),
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=4,
    sample_size=256,
)


def load_photographs() -> list[tuple[str, Image.Image]]:
    """Return name and RGB image of each of `PHOTOGRAPHS`."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    return [(name, Image.open(folder / name).convert("RGB")) for name in PHOTOGRAPHS]


def power_law_noise(size: int, exponent: float, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise of amplitude spectrum 1/f^exponent, zero mean and unit standard deviation, (size, size, channels)."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    amplitude = 1.0 / np.maximum(np.hypot(fy, fx), 1.0 / size) ** exponent
    amplitude[0, 0] = 0.0
    planes = []
    for _ in range(channels):
        phase = np.exp(2j * np.pi * rng.random(amplitude.shape))
        plane = np.fft.irfft2(amplitude * phase, s=(size, size))
        planes.append(plane / plane.std())
    return np.stack(planes, -1)


def dead_leaves(size: int, palette: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Return a dead-leaves image: occluding shapes with power-law radii, coloured from `palette` (n, 3) uint8, with 1/f
    noise as texture.
    """
    big = 2 * size  # Drawn at twice the size and reduced, for soft edges.
    canvas = Image.new("RGB", (big, big), tuple(int(v) for v in palette[rng.integers(len(palette))]))
    draw = ImageDraw.Draw(canvas)
    smallest, largest = 4.0, big / 2.5
    for _ in range(int(rng.integers(200, 1500))):
        # Inverse-transform sampling of p(r) ~ r^-2.5.
        radius = (largest**-1.5 + rng.random() * (smallest**-1.5 - largest**-1.5)) ** (-1 / 1.5)
        cx, cy = rng.random(2) * big
        colour = tuple(int(v) for v in palette[rng.integers(len(palette))])
        kind = rng.random()
        if kind < 0.5:
            stretch = rng.uniform(0.4, 1.0)
            draw.ellipse((cx - radius, cy - radius * stretch, cx + radius, cy + radius * stretch), fill=colour)
        elif kind < 0.9:
            angles = np.sort(rng.random(int(rng.integers(3, 7)))) * 2 * np.pi
            draw.polygon([(cx + radius * math.cos(a), cy + radius * math.sin(a)) for a in angles], fill=colour)
        else:
            angle = rng.random() * 2 * np.pi
            dx, dy = 3 * radius * math.cos(angle), 3 * radius * math.sin(angle)
            draw.line((cx - dx, cy - dy, cx + dx, cy + dy), fill=colour, width=max(1, int(radius / 4)))
    image = np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS), np.float32)
    shading = power_law_noise(size, 1.5, 1, rng) * rng.uniform(0, 20)
    texture = power_law_noise(size, rng.uniform(0.4, 1.2), 1, rng) * rng.uniform(0, 14)
    colour_noise = power_law_noise(size, 1.0, 3, rng) * rng.uniform(0, 5)
    return Image.fromarray(np.clip(image + shading + texture + colour_noise, 0, 255).astype(np.uint8))


class Crops:
    """Source of randomly augmented crops of photographs and procedural images."""

    def __init__(self, seed: int, procedural: int = 240):
        self.rng = np.random.default_rng(seed)
        self.photographs = load_photographs()
        weights = np.array([PHOTOGRAPH_WEIGHTS.get(name, 1.0) for name, _ in self.photographs])
        self.weights = weights / weights.sum()
        pixels = [
            np.asarray(image).reshape(-1, 3) for name, image in self.photographs if name in COLOUR_PHOTOGRAPHS[:4]
        ]
        palette = np.concatenate([p[self.rng.integers(len(p), size=4000)] for p in pixels])
        self.procedural = [dead_leaves(320, palette, self.rng) for _ in range(procedural)]

    def one(self, size: int) -> np.ndarray:
        """Return one augmented crop, (3, size, size) float32 in [-1, 1]."""
        rng = self.rng
        grey = False
        if rng.random() < 0.65:
            name, image = self.photographs[rng.choice(len(self.photographs), p=self.weights)]
            grey = name in GREY_PHOTOGRAPHS
        else:
            image = self.procedural[rng.integers(len(self.procedural))]
        # A square of 0.7 to 3 source pixels per output pixel, limited by the size of the image.
        side = min(size * math.exp(rng.uniform(math.log(0.7), math.log(3.0))), *image.size)
        left, top = rng.random() * (image.width - side), rng.random() * (image.height - side)
        crop = image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
        x = np.asarray(crop, np.float32) / 127.5 - 1.0
        x = np.rot90(x, int(rng.integers(4)))
        if rng.random() < 0.5:
            x = x[:, ::-1]
        if grey:
            x = x * rng.uniform(0.6, 1.1, 3) + rng.uniform(-0.3, 0.3) + rng.uniform(-0.15, 0.15, 3)
        elif rng.random() < 0.6:
            x = x[..., rng.permutation(3)] if rng.random() < 0.5 else x
            mean = x.mean((0, 1), keepdims=True)
            luma = x.mean(-1, keepdims=True)
            x = luma + (x - luma) * rng.uniform(0.3, 1.4)  # saturation
            x = (x - mean) * rng.uniform(0.6, 1.3) + mean + rng.uniform(-0.25, 0.25) + rng.uniform(-0.1, 0.1, 3)
        return np.clip(x, -1, 1).transpose(2, 0, 1).astype(np.float32)

    def batch(self, n: int, size: int) -> torch.Tensor:
        """Return n augmented crops, (n, 3, size, size) float32 in [-1, 1]."""
        return torch.from_numpy(np.stack([self.one(size) for _ in range(n)]))


class Pool:
    """A pool of crops whose latents are being optimised: images (n, 3, size, size), Adam iterates (n, 4, size/8,
    size/8).
    """

    MAX_AGE = 48
    RATE, BETAS = 0.06, (0.8, 0.95)  # The learning rate is in units of each latent's standard deviation.

    def __init__(self, images: torch.Tensor, latents: torch.Tensor, generator: torch.Generator):
        self.images, self.latents = images, latents
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(latents), torch.zeros_like(latents)
        # The initial ages are spread out, so that replacements do not happen all at once.
        self.age = torch.randint(0, self.MAX_AGE, (len(images),), generator=generator).to(images.device)
        self.count = torch.zeros_like(self.age)
        self.generator = generator

    def draw(self, n: int) -> torch.Tensor:
        """Return the indices of n distinct crops, drawn at random."""
        return torch.randperm(len(self.images), generator=self.generator)[:n].to(self.images.device)

    def update(self, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """Apply one Adam step to the latents of `rows`."""
        b1, b2 = self.BETAS
        self.count[rows] += 1
        self.age[rows] += 1
        steps = self.count[rows].view(-1, 1, 1, 1)
        self.exp_avg[rows] = m = torch.lerp(gradient, self.exp_avg[rows], b1)
        self.exp_avg_sq[rows] = v = torch.lerp(gradient.square(), self.exp_avg_sq[rows], b2)
        rate = self.RATE * self.latents[rows].flatten(1).std(1).view(-1, 1, 1, 1)
        self.latents[rows] -= rate * (m / (1 - b1**steps)) / ((v / (1 - b2**steps)).sqrt() + 1e-8)

    def replace_oldest(self, images: torch.Tensor, latents: torch.Tensor) -> None:
        """Replace the oldest crops by the given ones, as far as they have reached `MAX_AGE`."""
        rows = self.age.argsort(descending=True)[: len(images)]
        keep = self.age[rows] >= self.MAX_AGE
        rows = rows[keep]
        self.images[rows], self.latents[rows] = images[keep], latents[keep]
        self.exp_avg[rows], self.exp_avg_sq[rows] = 0.0, 0.0
        self.age[rows], self.count[rows] = 0, 0


def save(model, ema: dict[str, torch.Tensor], crops: Crops, out: Path, record: dict) -> None:
    """Write the averaged weights as a diffusers folder, with the `scaling_factor` measured on fresh crops."""
    from diffusers import AutoencoderKL

    averaged = AutoencoderKL.from_config(model.config)
    averaged.load_state_dict({name: value.cpu() for name, value in ema.items()})
    averaged.eval()
    with torch.no_grad():
        latents = averaged.encode(crops.batch(16, 128)).latent_dist.mode()
    averaged.register_to_config(scaling_factor=round(1.0 / latents.std().item(), 5))
    temporary = out.with_name(out.name + ".partial")
    averaged.half().save_pretrained(temporary)
    config = json.loads((temporary / "config.json").read_text())
    config.pop("_name_or_path", None)  # It would name this machine's folder of the previous stage.
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (temporary / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    out.mkdir(parents=True, exist_ok=True)
    for file in temporary.iterdir():
        file.chmod(0o644)
        os.replace(file, out / file.name)
    temporary.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the diffusers model")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="wall-clock budget; the rate decays to zero over it"
    )
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--init", type=Path, help="a diffusers folder of an earlier stage to start from")
    parser.add_argument("--freeze-encoder", action="store_true", help="train the decoder alone, on refined latents")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    import diffusers
    from diffusers import AutoencoderKL

    device = torch.device(arguments.device)
    crops = Crops(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    if arguments.init:
        model = AutoencoderKL.from_pretrained(arguments.init, torch_dtype=torch.float32, low_cpu_mem_usage=False)
    else:
        model = AutoencoderKL(**ARCHITECTURE)
    model.to(device, memory_format=torch.channels_last).train()
    frozen = arguments.freeze_encoder
    for part in (model.encoder, model.quant_conv):
        part.requires_grad_(not frozen)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.lr, betas=(0.9, 0.98), weight_decay=1e-4)
    ema = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def encode(images: torch.Tensor) -> torch.Tensor:
        return model.quant_conv(model.encoder(images)).float()

    def fresh(count: int, size: int) -> torch.Tensor:
        return crops.batch(count, size).to(device, memory_format=torch.channels_last)

    def new_pool(count: int, size: int) -> Pool:
        images = fresh(count, size)
        with torch.no_grad():
            latents = torch.cat([encode(part).chunk(2, dim=1)[0] for part in images.split(8)])
        return Pool(images, latents, generator)

    start, step, last_save, pool, running = time.time(), 0, time.time(), None, {}
    while (progress := (time.time() - start) / (60 * arguments.minutes)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = arguments.lr * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * progress))
        # The last fifth of the training uses images of the size at which the model is used.
        encoded, refined, size = (4, 8, 128) if progress < 0.8 else (1, 2, 256)
        if frozen:
            encoded = 1  # It only feeds the pool; its own error is reported, but not trained on.
        if (frozen or step >= 300) and (pool is None or pool.images.shape[-1] != size):
            pool = new_pool(8 * refined, size)
        images = fresh(encoded, size)
        with torch.autocast(device.type, torch.bfloat16), torch.set_grad_enabled(not frozen):
            mean, log_variance = encode(images).chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        latents_in = [mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)]
        targets = [images]
        if pool is not None:
            rows = pool.draw(refined)
            pooled = pool.latents[rows].requires_grad_(True)
            latents_in.append(pooled)
            targets.append(pool.images[rows])
        with torch.autocast(device.type, torch.bfloat16):
            decoded = model.decoder(model.post_quant_conv(torch.cat(latents_in))).float()
        error = (decoded - torch.cat(targets)).square().flatten(1).mean(1)
        objective = error[encoded:].mean() if frozen else error.mean()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
        optimizer.zero_grad(set_to_none=True)
        (objective + 1e-6 * kl).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if pool is not None:
            pool.update(rows, pooled.grad)
            pool.replace_oldest(images, mean.detach())
        step += 1
        decay = min(0.998, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                ema[name].lerp_(value, 1.0 - decay)
        for key, value in (("encoded", error[:encoded]), ("refined", error[encoded:])):
            if len(value):
                running[key] = 0.98 * running.get(key, value.mean().item()) + 0.02 * value.mean().item()
        if step % 50 == 0:
            psnr = "  ".join(f"{key} {10 * math.log10(4.0 / value):.2f} dB" for key, value in running.items())
            print(f"step {step}  {time.time() - start:.0f} s  {psnr}  latents σ {mean.std().item():.2f}", flush=True)
        if time.time() - last_save > 300:
            record = dict(steps=step, seconds=round(time.time() - start), partial=True)
            save(model, ema, crops, arguments.out, record)
            last_save = time.time()
    record = dict(
        steps=step, encoder_frozen=frozen, learning_rate=arguments.lr, minutes=arguments.minutes, seed=arguments.seed, seconds=round(time.time() - start), device=str(device), machine=platform.machine(),
        threads=torch.get_num_threads(), torch=torch.__version__, diffusers=diffusers.__version__,
    )  # fmt: skip
    save(model, ema, crops, arguments.out, record)


if __name__ == "__main__":
    main()
