"""A folder in diffusers' layout: an autoencoder's own, or a pipeline's with `vae/` in it."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..autoencoder import Autoencoder
from ..families.registry import check_kind, wrap
from .quiet import quiet
from .weights import SUFFIXES, check_file, check_keys

_STEM = "diffusion_pytorch_model"
# diffusion_pytorch_model[.VARIANT][-00001-of-00002].safetensors|bin
_WEIGHTS = re.compile(rf"{_STEM}(?:\.(?P<variant>[^.]+?))?(?:-\d+-of-\d+)?\.(?P<suffix>safetensors|bin)")
_LOGGERS = ("diffusers.models.modeling_utils", "diffusers.models.model_loading_utils", "diffusers.configuration_utils")


def load_folder(folder: Path, name: str | None = None, *, clips: bool = False) -> Autoencoder:
    """Load a folder that diffusers' `save_pretrained` wrote, or a pipeline's folder with `vae/` in it; of variants such as
    `.fp16.safetensors` the full one, else the first.

    Raises `UsageError` for a folder that holds something else, for weights that are not all there and nothing else, and for
    a class that is not known.
    """
    label = name or folder.resolve().name
    if not (folder / "config.json").is_file() and (folder / "vae" / "config.json").is_file():
        folder = folder / "vae"
        label = name or folder.resolve().name if folder.is_symlink() else label
    kind = read_kind(folder)
    check_kind(kind, str(folder))
    variant = _check_weights(folder, kind)
    where = f"the {kind} in {folder}"
    try:
        vae, report = from_pretrained(kind, folder, local_files_only=True, **({"variant": variant} if variant else {}))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"cannot load {where}: {' '.join(str(error).split())[:300]}") from error
    check_report(where, report)
    return wrap(vae, label, clips=clips)


def read_kind(folder: Path) -> str:
    """The class that a folder's config.json names. Raises `UsageError` where there is none."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        files = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
        remedy = f"; give the file itself: {files[0]}" if files else ""
        raise UsageError(
            f"{folder} is no diffusers autoencoder: no config.json that names its class{remedy}"
        ) from error
    return str(kind)


def _file_in(folder: Path) -> str:
    """The remedy where a folder has weights by another name."""
    files = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
    return f"; give the file itself: {files[0]}" if files else ""


def from_pretrained(kind: str, source: str | Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """diffusers' own loading, in fp32: the model, and its report of the keys, for `check_report`.

    Raises `UsageError` for a class that the installed diffusers has not, or cannot build, and whatever diffusers raises.
    """
    import diffusers
    import torch

    model_class = getattr(diffusers, kind, None)
    if model_class is None:
        raise UsageError(f"diffusers {diffusers.__version__} has no {kind}; upgrade it: pip install -U diffusers")
    if kind == "AutoencoderRAE" and importlib.util.find_spec("transformers") is None:
        raise UsageError("an AutoencoderRAE needs transformers: pip install 'relatent[rae]'")
    with quiet(*_LOGGERS):
        loaded: tuple[Any, dict[str, Any]] = model_class.from_pretrained(
            source, torch_dtype=torch.float32, low_cpu_mem_usage=False, output_loading_info=True,
            ignore_mismatched_sizes=True, **options,
        )  # fmt: skip
    return loaded


def check_report(where: str, report: dict[str, Any]) -> None:
    """Raise `UsageError` that names the keys which are missing, unexpected or of another shape."""
    check_keys(where, report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"])


def weight_files(folder: Path) -> dict[str | None, list[Path]]:
    """The files of weights in a folder of diffusers by their variant, None: the full one."""
    found: dict[str | None, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _WEIGHTS.fullmatch(path.name)
        if match:
            found.setdefault(match["variant"], []).append(path)
    return found


def _check_weights(folder: Path, kind: str) -> str | None:
    """The variant to load, None: the full one. Raises `UsageError` where a file of weights is damaged or absent."""
    found = weight_files(folder)
    if not found:
        remedy = _file_in(folder)
        raise UsageError(
            f"{folder} holds no weights: expected {_STEM}.safetensors or .bin, or a variant of one{remedy}"
        )
    variant = None if None in found else min(found, key=str)
    for path in found[variant]:
        try:
            check_file(path)
        except UsageError as error:
            raise UsageError(f"cannot load the {kind} in {folder}: {error}") from error
    return variant
