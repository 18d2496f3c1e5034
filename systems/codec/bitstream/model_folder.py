"""A model in a folder: `config.json` and `model.safetensors`, the frozen tables among its tensors."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import CodecModelError
from ..model.configuration import CodecConfiguration
from ..model.network import HierarchicalCodec
from .image_codec import ImageCodec
from .tables import TableSet, build_tables

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LAMBDA = "lambda"  # in the configuration; no part of the model's SHA-256, for files do not depend on it
FORMAT = 1
_MOST_CHANNELS = 4096


def save_model(model: HierarchicalCodec, folder: str | Path, lmbda: float, half: bool = False) -> ImageCodec:
    """Freezes the prior's tables and writes the folder, which is made. Returns the codec that files will be written with.

    lmbda: λ of the rate-distortion loss that the model was trained by. half: weights as float16, half the size; the codec returned has the rounded weights, the given model keeps its own.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    frozen = HierarchicalCodec(model.configuration)
    dtype = torch.float16 if half else torch.float32
    stored = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    frozen.load_state_dict(stored)
    codec = ImageCodec(frozen, build_tables(frozen.prior), lmbda)
    stored |= {name: torch.from_numpy(array) for name, array in codec.tables.arrays().items()}
    text = json.dumps({"format": FORMAT, LAMBDA: lmbda, **asdict(model.configuration)}, indent=2) + "\n"
    for name in (CONFIG, WEIGHTS):  # the weights last: a folder without them is refused
        temporary = folder / f".{name}.part"
        if name == CONFIG:
            temporary.write_text(text, encoding="utf-8")
        else:
            save_file(stored, temporary)
        temporary.replace(folder / name)
    return codec


def load_model(folder: str | Path) -> ImageCodec:
    """The codec of a folder that `save_model` wrote; nothing may be missing, surplus or of another shape.

    Raises CodecModelError in one line.
    """
    folder = Path(folder)
    configuration, lmbda = _read_configuration(folder / CONFIG)
    model = HierarchicalCodec(configuration)
    try:
        stored = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CodecModelError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    tables = [stored.pop(name, None) for name in ("tables.gaussian", "tables.z")]
    found = {name: tensor.shape for name, tensor in stored.items()}
    if found != expected or any(table is None or table.dtype != torch.int32 for table in tables):
        names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name)) or ["its tables"]
        raise CodecModelError(
            f"{folder / WEIGHTS} does not fit its configuration: {', '.join(names[:3])}; copy it again"
        )
    if not all(tensor.dtype.is_floating_point and tensor.isfinite().all() for tensor in stored.values()):
        raise CodecModelError(f"{folder / WEIGHTS} has weights that are not finite numbers; copy it again")
    model.load_state_dict(stored)
    gaussian, z = (table.numpy() for table in tables if table is not None)
    return ImageCodec(model, TableSet.from_arrays(gaussian, z, configuration.hyper_channels), lmbda)


def _read_configuration(path: Path) -> tuple[CodecConfiguration, float]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CodecModelError(f"{path} cannot be read: {error}") from error
    names = {LAMBDA} | {field.name for field in fields(CodecConfiguration)}
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT or set(content) != names:
        raise CodecModelError(
            f"{path} is no configuration of format {FORMAT} of this codec; expected {', '.join(sorted(names))}"
        )
    lmbda, name, widths = content.pop(LAMBDA), content.pop("name"), content.pop("widths")
    if type(lmbda) not in (int, float) or not 0 < lmbda < float("inf"):
        raise CodecModelError(f"{path}: expected a number above 0 as {LAMBDA}, found {lmbda!r}")
    whole = isinstance(widths, list) and len(widths) == 3 and isinstance(name, str)
    if not whole or not all(type(n) is int and 0 < n <= _MOST_CHANNELS for n in [*widths, *content.values()]):
        raise CodecModelError(f"{path}: expected channel counts from 1 to {_MOST_CHANNELS}, three in widths")
    return CodecConfiguration(name=name, widths=tuple(widths), **content), float(lmbda)
