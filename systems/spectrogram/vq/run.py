"""The whole training on a folder of spectrograms: the VQ-VAE, then the transformer on its codes."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....engine.runtime.device import resolve_device
from ....engine.version import VERSION
from ..data.dataset import Augmentation, SpectrogramDataset
from ..data.spectrogram import Spectrogram
from ..data.spectrogram_folder import read_index, read_spectrograms
from ..data.split import split_by_recording
from ..diffusion.draws import batch_indices
from ..vae.evaluation import picture_quality
from ..vae.training import SPLIT_SEED, pictures_digest
from .model_folder import TRANSFORMER_NAME, VQVAE_NAME, build_transformer, build_vqvae, save_network
from .settings import TransformerSettings, VQVAESettings, recipe_settings
from .training import Evaluation, Progress, Training
from .vqvae import VQVAE

HELD_OUT = 0.2  # of each user's recordings, the same ones as in the other trainings
BATCH = 32  # of an evaluation


def train_vq(
    data_dir: str | Path,
    output_dir: str | Path,
    recipe: str = "standard",
    vqvae: dict[str, Any] | None = None,
    transformer: dict[str, Any] | None = None,
    num_users: int | None = None,
    progress: Progress = print,
) -> dict[str, Any]:
    """Train both, or go on with a training that was stopped.

    vqvae, transformer: settings in place of the recipe's. num_users: from ID_1 on; None: all. Writes `vqvae.safetensors` and
    `transformer.safetensors`, each with a record `.json`, to `output_dir`, beside checkpoints and TensorBoard's logs. Returns both records by
    their names. Raises `UsageError` and `SpectrogramError` before any work, `RunStoppedError` where a training diverges.
    """
    items = read_spectrograms(data_dir, num_users)
    users = max(item.user for item in items) + 1
    first, second = recipe_settings(recipe, vqvae, {**(transformer or {}), "num_users": users})
    parts = split_by_recording(items, HELD_OUT, SPLIT_SEED)
    index = read_index(Path(data_dir))
    common = {
        "simulated": None if index is None else index["simulated"],
        "pictures": {"training": len(parts[0]), "held_out": len(parts[1])},
        "held_out": HELD_OUT,
        "split_seed": SPLIT_SEED,
        "versions": {"relatent": VERSION, "torch": torch.__version__},
    }
    folder = Path(output_dir)
    codes, of_vqvae = train_vqvae(first, parts, pictures_digest(items), folder, common, progress)
    numbers = [torch.tensor([item.user for item in part]) for part in parts]
    of_transformer = train_transformer(second, first, codes, numbers, folder, common, progress)
    return {VQVAE_NAME: of_vqvae, TRANSFORMER_NAME: of_transformer}


def train_vqvae(
    settings: VQVAESettings,
    parts: Sequence[Sequence[Spectrogram]],
    data: str,
    folder: Path,
    common: dict[str, Any],
    progress: Progress = print,
) -> tuple[list[Tensor], dict[str, Any]]:
    """Train the autoencoder. parts: to train with, and held out. data: their digest. common: goes into the record.

    Returns the codes of both parts, not augmented, (N, h, w) int64, and the record.
    """
    device = resolve_device(settings.device)
    model = build_vqvae(settings).to(device)
    training = SpectrogramDataset(parts[0], settings.resolution, Augmentation(), settings.seed)
    held_out = SpectrogramDataset(parts[1], settings.resolution)
    per_epoch = max(1, len(training) // settings.batch_size)

    def loss(step: int) -> dict[str, Tensor]:
        training.set_epoch(step // per_epoch)
        rows = batch_indices(len(training), settings.batch_size, settings.seed, step).tolist()
        pictures = torch.stack([training[row]["image"] for row in rows]).to(device)
        reconstruction, quantised = model(pictures)
        mse = F.mse_loss(reconstruction, pictures)
        return {"loss": mse + quantised.vq_loss, "mse": mse, "perplexity": quantised.perplexity}

    def reconstruct(pictures: Tensor) -> Tensor:
        return model.decode(model.encode(pictures.to(device)))

    def evaluate(limit: int | None = settings.eval_images) -> Evaluation:
        found = picture_quality(reconstruct, held_out, BATCH, limit)
        return Evaluation(-found.psnr, {"psnr": found.psnr, "ssim": found.ssim}, found.shown)

    trained = Training(VQVAE_NAME, model, settings, data, folder, loss, evaluate, progress).run()
    codes = [encode(model, SpectrogramDataset(part, settings.resolution)) for part in parts]
    shares = torch.bincount(codes[0].flatten(), minlength=settings.num_embeddings) / codes[0].numel()
    record = {
        **common,
        "settings": asdict(settings),
        **trained,
        **evaluate(None).values,
        "codes_used": int((shares > 0).sum()),
        "perplexity": float(torch.special.entr(shares).sum().exp()),
        "codes_of_a_picture": list(codes[0].shape[1:]),
    }
    save_network(folder, VQVAE_NAME, model, record)
    return codes, record


def train_transformer(
    settings: TransformerSettings,
    of_vqvae: VQVAESettings,
    codes: Sequence[Tensor],
    users: Sequence[Tensor],
    folder: Path,
    common: dict[str, Any],
    progress: Progress = print,
) -> dict[str, Any]:
    """Train on codes, (N, h, w) int64, of users, (N,) int64: to train with, and held out. Returns the record."""
    device = resolve_device(settings.device)
    codes = [part.flatten(1).to(device) for part in codes]
    users = [part.to(device) for part in users]
    model = build_transformer(settings, of_vqvae).to(device)
    data = hashlib.sha256(b"".join(part.cpu().numpy().tobytes() for part in codes)).hexdigest()

    def entropy(which: int, rows: Tensor, dropped: Tensor) -> Tensor:
        """Mean cross entropy of a code, nats. which: part."""
        target = codes[which][rows]
        return F.cross_entropy(model(target[:, :-1], users[which][rows], dropped).flatten(0, 1), target.flatten())

    def loss(step: int) -> dict[str, Tensor]:
        rows = batch_indices(len(codes[0]), settings.batch_size, settings.seed, step).to(device)
        dropped = (torch.rand(len(rows)) < settings.condition_dropout).to(device)
        return {"loss": entropy(0, rows, dropped)}

    def evaluate(limit: int = settings.eval_images) -> Evaluation:
        count = min(limit, len(codes[1]))
        rows = torch.linspace(0, len(codes[1]) - 1, count).round().long().to(device)
        kept = torch.zeros(count, dtype=torch.bool, device=device)
        sums = [entropy(1, part, kept[: len(part)]) * len(part) for part in rows.split(BATCH)]
        value = float(torch.stack(sums).sum()) / count
        return Evaluation(value, {"cross_entropy": value})

    trained = Training(TRANSFORMER_NAME, model, settings, data, folder, loss, evaluate, progress).run()
    with torch.no_grad():
        found = evaluate(len(codes[1])).values
    record = {**common, "settings": asdict(settings), **trained, **found}
    save_network(folder, TRANSFORMER_NAME, model, record)
    return record


@torch.no_grad()
def encode(model: VQVAE, dataset: SpectrogramDataset) -> Tensor:
    """The codes of all pictures, (N, h, w) int64, on the CPU. The model is left in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    batches = torch.arange(len(dataset)).split(BATCH)
    pictures = (torch.stack([dataset[int(row)]["image"] for row in batch]) for batch in batches)
    return torch.cat([model.encode(batch.to(device)).cpu() for batch in pictures])
