"""A checkpoint of one file, in the layout of its authors or of diffusers: an autoencoder's own, or a whole model's."""

import json
from pathlib import Path
from typing import Any

import torch

from ...errors import UsageError
from ..autoencoder import Autoencoder
from ..families.registry import check_kind, wrap
from .quiet import quiet
from .shapes import PREFIXES, infer
from .weights import check_keys, load_strictly, read_state_dict

_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "bn.", "conv1.", "conv2.")  # of an autoencoder
_NESTED = {"encoder.quant_conv.": "quant_conv.", "decoder.post_quant_conv.": "post_quant_conv."}  # as FLUX.2's authors


def load_single_file(
    path: Path,
    name: str | None = None,
    scaling: tuple[float, float] | None = None,
    *,
    clips: bool = False,
    **known: Any,
) -> Autoencoder:
    """Load a .safetensors, .ckpt, .pt, .pth or .bin file, without the network.

    Its configuration is that of a config.json beside it, or follows from the keys and shapes. scaling: factor and shift of a
    plain autoencoder's latents, which no file holds; None: known from the rest of the checkpoint, or the file is refused.
    clips and known go to `wrap`.
    Keys are renamed by diffusers' own `from_single_file` conversion. Raises `UsageError`.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    state = read_state_dict(path, PREFIXES)
    if "decoder.3.conv.0.weight" in state and "decoder.22.weight" in state:
        from ..taehv import build_taehv

        return build_taehv(state, name or path.stem, str(path))
    known = _config_beside(path)
    kind, config = known if known else infer(state, str(path), scaling)
    check_kind(kind, str(path))
    model = _build(kind, config, str(path))
    load_strictly(model, _converted(state, kind, config, model, str(path)), f"the {kind} in {path}")
    return wrap(model, name or path.stem, clips=clips, **known)


def _config_beside(path: Path) -> tuple[str, dict[str, Any]] | None:
    """The class and configuration in NAME.json or config.json beside a file; None where there is none."""
    for place in (path.with_suffix(".json"), path.parent / "config.json"):
        if place.is_file():
            try:
                config = json.loads(place.read_text(encoding="utf-8"))
                return str(config["_class_name"]), config
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"{place} names no class of an autoencoder; remove it, or put the right one there"
                ) from error
    return None


def _build(kind: str, config: dict[str, Any], where: str) -> Any:
    import diffusers

    model_class = getattr(diffusers, kind, None)
    if model_class is None:
        raise UsageError(
            f"{where}: diffusers {diffusers.__version__} has no {kind}; upgrade it: pip install -U diffusers"
        )
    try:
        with quiet("diffusers.configuration_utils"):
            return model_class.from_config(config)
    except Exception as error:
        raise UsageError(f"{where}: cannot build its {kind}: {' '.join(str(error).split())[:200]}") from error


def _converted(state: dict[str, Any], kind: str, config: dict[str, Any], model: Any, where: str) -> dict[str, Any]:
    """The tensors by diffusers' keys. Raises `UsageError` for keys that belong to none of them."""
    prefix = next((prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in state)), "")
    own = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    for old, new in _NESTED.items():
        own = {new + key[len(old) :] if key.startswith(old) else key: value for key, value in own.items()}
    expected = model.state_dict().keys()
    if len(expected & own.keys()) > len(expected) // 2:  # diffusers' own keys; its authors' have few of them
        return {key: value for key, value in own.items() if key in expected or key.startswith(_PARTS)}
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES as CONVERSIONS

    # FLUX.2's keys are those of Stable Diffusion's autoencoder
    conversion: Any = CONVERSIONS.get("AutoencoderKL" if kind == "AutoencoderKLFlux2" else kind)
    if conversion is None:
        raise UsageError(f"{where}: diffusers converts no single file of an {kind}; give a folder in diffusers' layout")
    try:
        converted = conversion["checkpoint_mapping_fn"](checkpoint=dict(own), config=dict(model.config))
    except Exception as error:  # it indexes and reshapes what it expects
        reason = f"missing: {error.args[0]}" if isinstance(error, KeyError) else " ".join(str(error).split())[:160]
        raise UsageError(f"{where} does not hold all of its {kind}; {reason}") from error
    converted |= {key: value for key, value in own.items() if key.startswith("bn.")}
    used = {value.data_ptr() for value in converted.values() if isinstance(value, torch.Tensor)}
    left = [key for key, value in own.items() if key.startswith(_PARTS) and value.data_ptr() not in used]
    check_keys(where, [], left, [])
    return {key: value for key, value in converted.items() if value is not None}
