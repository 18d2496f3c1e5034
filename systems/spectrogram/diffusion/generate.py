"""Spectrograms from a trained model, as a folder that can be read as a folder of measured ones."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ....engine.errors import UsageError
from ....engine.runtime.device import resolve_device
from ....exporters.files.atomic import atomic_path, file_sha256, write_json
from ..data.spectrogram_folder import INDEX, SCHEMA
from ..guidance.classifier import WEIGHTS as CLASSIFIER
from ..guidance.classifier import has_classifier, load_classifier
from ..vae.model import find_vae, load_vae
from .draws import sample_seed
from .encoding import WEIGHTS
from .model_folder import BEST, CONDITION, EMA_UNET, UNET, DiffusionModel, load_model
from .sampler import Classifier, sample_latents

RECORD = "generation.json"
OnStep = Callable[[int, int], None]  # samples done, in all


@dataclass(frozen=True)
class GenerationSettings:
    """What decides a sample, beside model, user and number. guidance_scale: None for the one that the model's training had."""

    guidance_scale: float | None = None  # 1: the condition alone; 0: no condition
    num_inference_steps: int = 50
    seed: int = 0
    ema: bool = True  # the averaged weights, where the model has some
    classifier_scale: float = 0.0  # of the classifier's gradient; 0: no classifier


def generate(
    model_dir: str | Path,
    output_dir: str | Path,
    samples_per_user: int = 10,
    user_ids: Sequence[int] | None = None,
    settings: GenerationSettings = GenerationSettings(),
    batch_size: int = 16,
    device: str = "auto",
    vae_dir: str | Path | None = None,
    classifier: Classifier | None = None,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Write `ID_{n}/sample_{i:04d}.png`, i from 0 on, and `spectrograms.json`, which says that they are generated.

    classifier: None for the model's own, which is used where classifier_scale is above 0.
    user_ids: the n of the folders, from 1 on; None: all users of the model. vae_dir: None for the model's own VAE. Samples that are
    there already are left as they are, so a stopped generation goes on, and a larger number of samples or users adds to it. A sample is
    the same whichever others are asked for, beyond rounding. Returns the content of `generation.json`.
    Raises `UsageError` for a user or model that does not exist, and for a folder of other settings.
    """
    output_dir = Path(output_dir)
    model = load_model(model_dir, settings.ema)
    users = _users(user_ids, model.num_users)
    if samples_per_user < 1 or batch_size < 1:
        raise UsageError(f"expected 1 sample per user and batch at least, found {samples_per_user} and {batch_size}")
    if not 0.0 <= settings.classifier_scale < float("inf"):
        raise UsageError(f"classifier_scale: expected a number from 0 on, found {settings.classifier_scale}")
    scale: float = settings.guidance_scale  # type: ignore[assignment]  # None is replaced here
    if scale is None:
        scale = model.record["settings"]["condition_scale"]
    where_vae = vae_dir or model.vae_folder
    if where_vae is None:
        raise UsageError(f"{model_dir} was trained on latents without a VAE; give the vae_dir that decodes them")
    vae = load_vae(where_vae)[0]
    identity = {
        "model": _weights_digest(model, settings.ema),
        "vae": file_sha256(find_vae(Path(where_vae))[0] / WEIGHTS),
        **asdict(settings),
        "guidance_scale": scale,
    }
    where = resolve_device(device)
    if classifier is None and settings.classifier_scale > 0.0:
        own = _classifier_folder(model.folder)
        classifier = load_classifier(own, model.record).to(where).log_probability
        identity["classifier"] = file_sha256(own / CLASSIFIER)
    _check_record(output_dir / RECORD, identity)
    write_json(output_dir / RECORD, identity)
    plan = [(user, index) for user in users for index in range(samples_per_user)]
    missing = [one for one in plan if not _path(output_dir, *one).exists()]
    network, vae = model.network.to(where), vae.to(where)
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]
        latents = sample_latents(
            network,
            model.scaling,
            torch.tensor([user for user, _ in batch]),
            [sample_seed(settings.seed, *one) for one in batch],
            scale,
            settings.num_inference_steps,
            classifier if settings.classifier_scale > 0.0 else None,
            settings.classifier_scale,
        )
        with torch.no_grad():
            pictures = vae.decode(latents).sample.float().cpu()
        for one, picture in zip(batch, pictures, strict=True):
            _save(picture, _path(output_dir, *one))
        if on_step is not None:
            on_step(len(plan) - len(missing) + start + len(batch), len(plan))
    _write_index(output_dir, model, identity)
    return {**identity, "samples": len(plan), "new": len(missing), "simulated": model.record["simulated"]}


def _classifier_folder(model: Path) -> Path:
    """The best model so far is beside the classifier of its training; no other subfolder's latents are the same."""
    return model.parent if model.name == BEST and not has_classifier(model) else model


def _users(user_ids: Sequence[int] | None, num_users: int) -> list[int]:
    """The users from 0 on, each once, in order."""
    if user_ids is None:
        return list(range(num_users))
    if not user_ids or not all(1 <= one <= num_users for one in user_ids):
        raise UsageError(f"user_ids: expected numbers from 1 to {num_users}, as in ID_1, found {list(user_ids)}")
    return sorted({one - 1 for one in user_ids})


def _path(output_dir: Path, user: int, index: int) -> Path:
    return output_dir / f"ID_{user + 1}" / f"sample_{index:04d}.png"


def _save(picture: Tensor, path: Path) -> None:
    """picture: (3, H, W) in [−1, 1]. Nothing is drawn into it: what tells users apart must be the network's work."""
    pixels = ((picture.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary)


def _weights_digest(model: DiffusionModel, ema: bool) -> str:
    averaged = ema and (model.folder / EMA_UNET).is_dir()
    files = (model.folder / (EMA_UNET if averaged else UNET) / WEIGHTS, model.folder / CONDITION)
    return " ".join(map(file_sha256, files))


def _check_record(path: Path, identity: dict[str, Any]) -> None:
    """Raise `UsageError` where the folder holds samples of another model or of other settings."""
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name, value in identity.items() if found[name] != value]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give another output_dir") from error
    if differing:
        raise UsageError(f"{path.parent} holds samples of another {', '.join(differing)}; give another output_dir")


def _write_index(output_dir: Path, model: DiffusionModel, identity: dict[str, Any]) -> None:
    """`spectrograms.json` of all samples in the folder, each a recording of its own."""
    entries = {}
    for path in sorted(output_dir.glob("ID_*/sample_*.png")):
        user = int(path.parent.name.removeprefix("ID_")) - 1
        entries[f"{path.parent.name}/{path.name}"] = {"user": user, "recording": path.stem, "time": 0.0}
    index = {
        "schema": SCHEMA,
        "simulated": bool(model.record["simulated"]),  # what the model was trained on
        "generated": True,
        "generation": identity,
        "spectrograms": entries,
    }
    write_json(output_dir / INDEX, index)
