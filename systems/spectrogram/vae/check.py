"""`relatent spectrogram check`: does a VAE's folder hold together, does it fit a diffusion model, and is it good enough?"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ....engine.autoencoders.loading import load_autoencoder
from ....engine.errors import RelatentError, UsageError
from ....engine.runtime.atomic import file_sha256
from ....engine.runtime.device import resolve_device
from ..data.dataset import SpectrogramDataset
from ..data.spectrogram_folder import read_index, read_spectrograms
from ..data.split import split_by_recording
from ..guidance.classifier import RECORD as CLASSIFIER_RECORD
from ..guidance.classifier import has_classifier, load_classifier
from .evaluation import latent_statistics, reconstruction_quality
from .model import KIND, VAE, WEIGHTS, VAEModel, find_vae, load_vae

LEAST_PSNR, AIM_PSNR, LEAST_SSIM = 25.0, 28.0, 0.8  # dB; the recipe quality aims at 28
FACTOR_TOLERANCE = 1e-3  # relative, between numbers that ought to be the same
SPREAD_TOLERANCE = 0.2  # of 1, for the standard deviation of scaled latents of pictures that were not trained on
STABLE_DIFFUSION = 0.18215  # the factor of its own VAE, and a frequent mistake elsewhere
BATCH = 16


@dataclass(frozen=True)
class Check:
    """What was found. ok: None where there was nothing to compare with. detail: one line."""

    name: str
    ok: bool | None
    detail: str


def check_vae(
    model_path: Path, data_dir: Path | None = None, diffusion_dir: Path | None = None, device: str = "auto"
) -> Iterator[Check]:
    """Yield the checks, one after the other. Raises `UsageError` where there is no VAE or a given folder is not there.

    model_path: the folder that `train_vae` wrote, or its `vae`. data_dir: spectrograms, for the figures on held-out recordings.
    diffusion_dir: a diffusion model's folder, whose configuration must fit.
    """
    where, _ = find_vae(model_path)
    for name, folder in (("model_path", where), ("data_dir", data_dir), ("diffusion_dir", diffusion_dir)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{name}: {folder} is no folder")
    try:
        vae, record = load_vae(model_path)
    except RelatentError as error:
        yield Check("weights", False, str(error))
        return
    yield _weights(vae)
    yield _record(vae, record)
    yield _scaling(vae, record)
    yield _engine(where, record)
    if diffusion_dir is not None:
        yield from _diffusion(vae, where, record, diffusion_dir)
    if data_dir is not None:
        try:
            yield from _data(vae, record, data_dir, device)
        except RelatentError as error:
            yield Check("data", False, str(error))


def _weights(vae: VAEModel) -> Check:
    bad = [name for name, tensor in vae.state_dict().items() if not tensor.isfinite().all()]
    count = sum(parameter.numel() for parameter in vae.parameters())
    detail = f"{bad[0]} is not finite; train again" if bad else f"{count} parameters, as its configuration says, finite"
    return Check("weights", not bad, f"{KIND}: {detail}")


def _record(vae: VAEModel, record: dict[str, Any]) -> Check:
    """The record of the training and the configuration speak of the same model."""
    config = vae.config
    pairs = {
        "resolution": (record["resolution"], config.sample_size),
        "latent_channels": (record.get("latent_channels"), config.latent_channels),
        "channels of pictures": (3, config.in_channels),
        "channels of reconstructions": (3, config.out_channels),
    }
    return _compared("configuration", pairs, "vae_training.json", "config.json")


def _scaling(vae: VAEModel, record: dict[str, Any]) -> Check:
    factor, expected, stored = record["scaling_factor"], 1.0 / record["latent_std"], vae.config.scaling_factor
    figures = f"1/σ {expected:.5g}, vae_training.json {factor:.5g}, config.json {stored:.5g}"
    if _close(factor, expected) and _close(stored, expected):
        return Check("scaling factor", True, figures)
    fixed = _close(factor, STABLE_DIFFUSION) or _close(stored, STABLE_DIFFUSION)
    remedy = "; .18215 is Stable Diffusion's, not this VAE's" if fixed else ""
    return Check("scaling factor", False, f"{figures}: expected the same three times{remedy}")


def _engine(where: Path, record: dict[str, Any]) -> Check:
    """`relatent optimize --vae` takes the folder."""
    try:
        loaded = load_autoencoder(where, device="cpu")
    except RelatentError as error:
        return Check("engine", False, str(error))
    return Check(
        "engine",
        loaded.latent_channels == record.get("latent_channels"),
        f"loads for `relatent optimize --vae`: {loaded.latent_channels} latent channels at 1/{loaded.downscale_factor}",
    )


def _diffusion(vae: VAEModel, where: Path, record: dict[str, Any], folder: Path) -> Iterator[Check]:
    """A diffusion model's UNet and its model.json fit the VAE, which is the one that it was trained with."""
    try:
        unet, model = _json(folder / "unet" / "config.json"), _json(folder / "model.json")
    except UsageError as error:
        yield Check("diffusion", False, str(error))
        return
    channels, side = vae.config.latent_channels, vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)
    pairs = {name: (unet.get(name), channels) for name in ("in_channels", "out_channels")}
    pairs |= {"sample_size": (unet.get("sample_size"), side)}
    pairs |= {"latent_shape": (model.get("latent_shape"), [channels, side, side])}
    yield _compared("diffusion: latents", pairs, "the diffusion model", "the VAE")
    users = _part(model, "settings").get("num_users")
    yield _compared("diffusion: users", {"num_users": (users, record["num_users"])}, "model.json", "vae_training.json")
    yield _spread(_part(model, "scaling").get("std"), record)
    if has_classifier(folder):
        yield _classifier(folder, model)
    own = folder / str(model.get("vae") or VAE) / WEIGHTS
    if own.is_file():
        same = own.samefile(where / WEIGHTS) or file_sha256(own) == file_sha256(where / WEIGHTS)
        detail = "the one that it was trained with" if same else f"{own} has other weights; give it as the VAE"
        yield Check("diffusion: VAE", same, detail)
    else:
        yield Check("diffusion: VAE", None, f"{own} is not there to compare with")


def _classifier(folder: Path, model: dict[str, Any]) -> Check:
    """The classifier that guides is of the diffusion model's latents and users."""
    try:
        load_classifier(folder, model)
    except RelatentError as error:
        return Check("diffusion: classifier", False, str(error))
    accuracy = _json(folder / CLASSIFIER_RECORD).get("accuracy_little_noise")
    return Check("diffusion: classifier", True, f"fits; accuracy {accuracy:.3f} on held-out latents of little noise")


def _spread(std: Any, record: dict[str, Any]) -> Check:
    """The diffusion model divides by the σ of this VAE's latents: of all values, or within channels."""
    name, own = "diffusion: σ of latents", record["latent_std"]
    if type(std) not in (int, float):
        return Check(name, False, f"model.json: expected a number as scaling.std, found {std}")
    spreads = [own, math.sqrt(fmean(value**2 for value in record.get("channel_std", [own])))]
    ok = any(math.isclose(std, each, rel_tol=SPREAD_TOLERANCE) for each in spreads)
    detail = f"model.json {std:.5g}, vae_training.json {own:.5g}"
    return Check(
        name, ok, detail if ok else f"{detail}: trained on latents of another VAE, or scaled by another factor"
    )


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _data(vae: VAEModel, record: dict[str, Any], data_dir: Path, device: str) -> Iterator[Check]:
    """Figures on the recordings that the training held out."""
    items = read_spectrograms(data_dir)
    users = max(item.user for item in items) + 1
    yield _compared("data: users", {"num_users": (users, record["num_users"])}, str(data_dir), "vae_training.json")
    held_out = split_by_recording(items, record.get("held_out", 0.2), record.get("split_seed", 0))[1]
    index = read_index(data_dir)
    kind = "held-out pictures" if index is None else f"{'simulated ' * index['simulated']}held-out recordings"
    dataset = SpectrogramDataset(held_out, int(vae.config.sample_size))
    vae = vae.to(resolve_device(device))
    found = reconstruction_quality(vae, dataset, BATCH)
    pictures = f"{len(dataset)} pictures of {kind}"
    aim = f", the recipe quality aims at > {AIM_PSNR:g}" if LEAST_PSNR < found.psnr <= AIM_PSNR else ""
    yield Check("PSNR", found.psnr > LEAST_PSNR, f"{found.psnr:.2f} dB on {pictures}, target > {LEAST_PSNR:g}{aim}")
    yield Check("SSIM", found.ssim > LEAST_SSIM, f"{found.ssim:.4f} on {pictures}, target > {LEAST_SSIM:g}")
    latents = latent_statistics(vae, dataset, BATCH)
    spread = latents["latent_std"] * record["scaling_factor"]
    pairs = zip(latents["channel_mean"], latents["channel_std"], strict=True)
    channels = ", ".join(f"{mean:+.2f} ± {std:.2f}" for mean, std in pairs)
    yield Check(
        "latents",
        abs(spread - 1.0) <= SPREAD_TOLERANCE,
        f"mean {latents['latent_mean']:+.3f}, σ {latents['latent_std']:.3f}, scaled σ {spread:.3f} (expected 1 ± "
        f"{SPREAD_TOLERANCE:g}); channels {channels}",
    )


def _compared(name: str, pairs: dict[str, tuple[Any, Any]], first: str, second: str) -> Check:
    """Both of each pair are the same."""
    for what, (one, other) in pairs.items():
        if one != other:
            return Check(name, False, f"{what}: {first} has {one}, {second} has {other}")
    return Check(name, True, ", ".join(f"{what} {one}" for what, (one, _) in pairs.items()))


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=FACTOR_TOLERANCE)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected an object")
    return content
