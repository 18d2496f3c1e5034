"""Files of weights: what is wrong with one, said in a line, and the tensors in it."""

import json
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import UsageError, first_line
from .quiet import quiet

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_POINTER = b"version https://git-lfs"
NAMED = 4  # keys that a message names; of more it gives the number


def check_file(path: Path) -> None:
    """Raise `UsageError` for a file that is a pointer of Git LFS, half downloaded, or no file of weights."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(len(_POINTER))
        if head == _POINTER:
            raise UsageError(f"{path} is a pointer of Git LFS, not the weights; fetch them with `git lfs pull`")
        if path.suffix == ".safetensors":
            file.seek(0)
            expected = _safetensors_size(file.read(8), file, size)
            if expected is None:
                raise UsageError(
                    f"{path} is damaged or no state dict: it has no header of a safetensors file; download it again"
                )
            if expected > size:
                raise UsageError(f"{path} is half downloaded: {size} of {expected} bytes; download it again")
        elif head[:4] == b"PK\x03\x04" and not zipfile.is_zipfile(path):
            raise UsageError(f"{path} is half downloaded: the end of its archive is missing; download it again")


def _safetensors_size(prefix: bytes, file: Any, size: int) -> int | None:
    """The size in bytes that the header of a safetensors file promises; None where there is no such header."""
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > 100_000_000:  # the format's own limit
        return None
    if 8 + length > size:
        return 8 + length
    try:
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    return 8 + length + max(ends, default=0)


def read_state_dict(path: Path, prefixes: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """The tensors of a file by their keys, of any type; no pickle is executed.

    prefixes: where a .safetensors file has keys with one of them, the tensors of the others are left empty: a whole model's
    checkpoint has gigabytes of them. Raises `UsageError` for a file that is damaged, half downloaded, or holds something else.
    """
    check_file(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                keys = list(file.keys())
                whole = not any(key.startswith(prefixes) for key in keys)
                return {
                    key: file.get_tensor(key) if whole or key.startswith(prefixes) else torch.empty(0) for key in keys
                }
        content = load_plain(path)
    except Exception as error:  # safetensors raises its own
        reason = " ".join(str(error).split())[:160]
        other = "" if path.suffix == ".safetensors" else ", or use a .safetensors file of the same weights"
        raise UsageError(f"{path} is damaged or no state dict: {reason}; download it again{other}") from error
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} is damaged or no state dict: found a {type(content).__name__}")
    return {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}


def load_plain(path: Path, *, mmap: bool = False) -> Any:
    """What `torch.save` wrote, if it is of tensors, lists, texts and numbers alone; no pickle is executed.

    mmap: leave the tensors' values in the file until they are used. Raises `ValueError` with the reason. torch's own errors are not passed on: their text advises to execute the file.
    """
    try:
        with quiet():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (RuntimeError, OSError) as error:  # of torch's reader of archives, and of the disk
        raise ValueError(first_line(error).partition(". ")[0]) from error  # without torch's guesses that follow
    except Exception as error:  # of torch's reader of pickles, which raises whatever a strange one leads it to
        more = isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error)
    if more:
        raise ValueError("it holds more than tensors, which would have to be executed")
    raise ValueError("it is no file of torch.save's that can be read safely")


def load_strictly(model: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Fill a model in fp32. Raises `UsageError` that names keys which are missing, unexpected or of another shape."""
    expected = model.state_dict()
    check_keys(
        where,
        missing=expected.keys() - state.keys(),
        unexpected=state.keys() - expected.keys(),
        shapes=[
            (key, tuple(state[key].shape), tuple(expected[key].shape))
            for key in sorted(expected.keys() & state.keys())
            if state[key].shape != expected[key].shape
        ],
    )
    own = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    model.load_state_dict(own, strict=False, assign=any(value.is_meta for value in expected.values()))


def check_keys(
    where: str, missing: Iterable[str], unexpected: Iterable[str], shapes: Iterable[tuple[str, Any, Any]]
) -> None:
    """Raise `UsageError` that names what keeps a file from being the model's weights.

    shapes: (key, found, expected). A batch norm's count of batches, which nothing reads, may be missing.
    """
    faults = {
        "missing": sorted(key for key in missing if not key.endswith("num_batches_tracked")),
        "unexpected": sorted(unexpected),
        "of another shape": [
            f"{key} {tuple(found)} in place of {tuple(wanted)}" for key, found, wanted in sorted(shapes)
        ],
    }
    lines = [
        f"{kind}: {', '.join(keys[:NAMED])}{f' and {len(keys) - NAMED} more' if len(keys) > NAMED else ''}"
        for kind, keys in faults.items()
        if keys
    ]
    if lines:
        raise UsageError(
            f"{where} does not hold all of this autoencoder and nothing else; {'; '.join(lines)}. Remedy: download it again, "
            "or give the weights that belong to its configuration"
        )
