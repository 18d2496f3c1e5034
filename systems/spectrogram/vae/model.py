"""The VAE, diffusers' AutoencoderKL, and the folder that a training writes it to."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from ....engine.autoencoders.files.folder import check_report, from_pretrained, read_kind
from ....engine.errors import UsageError
from ....engine.runtime.atomic import discard, publish, temporary_name, write_json
from .settings import VAE, VAESettings

KIND, WEIGHTS = "AutoencoderKL", "diffusion_pytorch_model.safetensors"
RECORD = "vae_training.json"  # in the folder that a training writes
VAEModel = Any  # diffusers' AutoencoderKL, which has no types


def build_vae(settings: VAESettings) -> VAEModel:
    """Return a new VAE with random weights of torch's current random state, in fp32.

    Pictures (B, 3, R, R) in [−1, 1] to latents (B, latent_channels, R/f, R/f), f being `settings.downscale_factor`.
    """
    from diffusers import AutoencoderKL

    levels = len(settings.block_out_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=settings.block_out_channels,
        layers_per_block=settings.layers_per_block,
        latent_channels=settings.latent_channels,
        norm_num_groups=math.gcd(32, *settings.block_out_channels),
        sample_size=settings.resolution,
        scaling_factor=1.0,  # until the latents' spread is known: `save_vae`
    )


def save_vae(vae: VAEModel, record: dict[str, Any], folder: Path) -> None:
    """Write `folder`/vae in diffusers' layout and `folder`/vae_training.json; the record's `scaling_factor` goes into both.

    Each appears under its name only when it is complete; the record is written last.
    """
    vae.register_to_config(scaling_factor=record["scaling_factor"])
    final = folder / VAE
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(final)
    discard(temporary)
    try:
        vae.save_pretrained(temporary)
        publish(temporary, final)
    finally:
        discard(temporary)
    write_json(folder / RECORD, record)


def load_vae(folder: str | Path) -> tuple[VAEModel, dict[str, Any]]:
    """Return what `save_vae` wrote: the VAE, in fp32, in evaluation mode, on the CPU, and the record of its training.

    folder: that of the training, or its `vae`. Latents times the record's `scaling_factor` have a standard deviation of 1.
    Raises `UsageError` for a folder that holds something else, or weights that are damaged or not all there.
    """
    where, record = find_vae(Path(folder))
    kind = read_kind(where)
    if kind != KIND:
        raise UsageError(
            f"{where}: expected an {KIND}, found a {kind}; train one with `relatent spectrogram train-vae`"
        )
    try:
        vae, report = from_pretrained(KIND, where, local_files_only=True, use_safetensors=True)
    except UsageError:
        raise
    except Exception as error:  # diffusers and safetensors raise errors of many types
        raise UsageError(f"cannot load the {KIND} in {where}: {' '.join(str(error).split())[:300]}") from error
    check_report(f"the {KIND} in {where}", report)
    return vae.eval(), read_record(record)


def find_vae(folder: Path) -> tuple[Path, Path]:
    """Return where the VAE and its record are: `folder` is that of the training, or its `vae`. Neither need exist."""
    if (folder / "config.json").is_file() and not (folder / VAE).is_dir():
        return folder, folder.resolve().parent / RECORD
    return folder / VAE, folder / RECORD


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a training. Raises `UsageError` where there is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}); `relatent spectrogram train-vae` writes it beside the VAE"
        ) from error
    needed = ("latent_mean", "latent_std", "scaling_factor", "resolution", "num_users")
    numbers = record if isinstance(record, dict) else {}
    bad = [name for name in needed if not _is_number(numbers.get(name))]
    bad += [name for name in ("held_out", "split_seed") if not _is_number(numbers.get(name, 0))]
    if bad or not numbers["latent_std"] > 0.0:
        raise UsageError(f"{path}: expected a number as {[*bad, 'latent_std'][0]}, above 0; train the VAE again")
    return record


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def remove_partial(folder: Path) -> None:
    """Remove what killed trainings left of files that they did not complete."""
    for path in (*folder.glob(".vae*.partial-*"), *folder.glob(f".{VAE}.old-*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
