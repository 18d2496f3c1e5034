"""Files of encoders that were tuned for a frozen decoder, and the autoencoder with such an encoder.

A file is a safetensors file of those of the encoder's tensors that tuning changed. Its metadata say which decoder and
which encoder they belong to, by the SHA-256 of their weights. One file per decoder is kept in the user's cache; a setting
of the optimiser, `start`, makes iterations start at its latents: `encoder` (no tuned encoder), `tuned` (the kept one) or a
path. `tuned@SHA256` and `PATH@SHA256` are the same and refuse another file than that of the digest: so `run.json` records
them.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..autoencoders.autoencoder import Autoencoder
from ..autoencoders.weights_hash import weights_sha256
from ..calibration.cache import cache_folder
from ..errors import UsageError
from ..runtime.atomic import atomic_path, file_sha256

SCHEMA = "relatent-tuned-encoder/1"
ENCODER, TUNED = "encoder", "tuned"  # values of `OptimizationConfig.start`
MAKE_ONE = "make one: relatent tune-encoder RUN"


def encoder_module(autoencoder: Autoencoder) -> nn.Module:
    """Return the encoder as a module. Raises `UsageError` where there is none, or where it or the decoder is a function."""
    if not (isinstance(autoencoder.encoder, nn.Module) and isinstance(autoencoder.decoder, nn.Module)):
        raise UsageError(
            f"the autoencoder {autoencoder.name!r} has no encoder and decoder with weights: it cannot be tuned"
        )
    return autoencoder.encoder


def part_hashes(autoencoder: Autoencoder) -> dict[str, str]:
    """Return the SHA-256 of the decoder's and of the encoder's weights: `decoder_sha256` and `encoder_sha256`."""
    encoder_module(autoencoder)
    found: dict[str, str] = autoencoder.cache.get(
        "hashes",
        (),
        lambda: {f"{part}_sha256": weights_sha256([getattr(autoencoder, part)]) for part in ("decoder", "encoder")},
    )
    return found


def kept_path(autoencoder: Autoencoder) -> Path:
    """Return where the tuned encoder of this decoder is kept, in the user's cache; the file need not exist."""
    return cache_folder("tuned_encoders") / f"{part_hashes(autoencoder)['decoder_sha256']}.safetensors"


def write_tuned_encoder(path: Path, autoencoder: Autoencoder, tuned: nn.Module, facts: dict[str, Any]) -> str:
    """Write the tensors of `tuned`, a changed copy of the encoder, that differ from the encoder's; return the file's SHA-256.

    facts: JSON-ready, how it was tuned. The file appears under its name when it is complete.
    """
    from safetensors.torch import save_file

    before = encoder_module(autoencoder).state_dict()
    changed = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tuned.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    metadata = {"schema": SCHEMA, **part_hashes(autoencoder), "facts": json.dumps(facts, allow_nan=False)}
    try:
        with atomic_path(path) as temporary:
            save_file(changed, temporary, metadata)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error}; choose another --output") from error
    return file_sha256(path)


def read_tuned_encoder(path: Path, autoencoder: Autoencoder) -> tuple[nn.Module, dict[str, Any]]:
    """Return the tuned encoder of a file, frozen, on the autoencoder's device, and the facts of its tuning.

    Raises `UsageError` for a file that is missing, damaged, or tuned for another decoder or from another encoder.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UsageError(f"there is no tuned encoder {path}; {MAKE_ONE} --output {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
        facts = json.loads(metadata.get("facts", "{}"))
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(f"{path} is damaged: {error}; {MAKE_ONE}") from error
    if metadata.get("schema") != SCHEMA:
        raise UsageError(f"{path} is no tuned encoder of schema {SCHEMA}: found {metadata.get('schema')!r}; {MAKE_ONE}")
    for key, wanted in part_hashes(autoencoder).items():
        if metadata.get(key) != wanted:
            raise UsageError(
                f"{path} was tuned with another {key.split('_')[0]} than that of {autoencoder.name!r}; {MAKE_ONE}"
            )
    tuned = copy.deepcopy(encoder_module(autoencoder))
    own = tuned.state_dict()
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            raise UsageError(f"{path} does not fit the encoder of {autoencoder.name!r}: {name}; {MAKE_ONE}")
    tuned.load_state_dict(tensors, strict=False)
    return tuned.requires_grad_(False), facts


def resolve_start(autoencoder: Autoencoder, start: str) -> str:
    """Return `start` with the digest of its file, as `run.json` records it. Raises as `read_tuned_encoder`, and where the
    file has another digest than `start` says."""
    if start == ENCODER:
        return start
    _, digest = _with_encoder(autoencoder, start)
    name = _split(start)[0]
    return f"{name if name == TUNED else Path(name).resolve()}@{digest}"


def tuned_autoencoder(autoencoder: Autoencoder, start: str) -> Autoencoder:
    """Return the autoencoder with the tuned encoder that `start` names, from its cache where it was read before. Raises as
    `resolve_start`."""
    return _with_encoder(autoencoder, start)[0]


def _with_encoder(autoencoder: Autoencoder, start: str) -> tuple[Autoencoder, str]:
    """Return the autoencoder with the tuned encoder of `start`, and the digest of its file."""
    name, wanted = _split(start)
    path = kept_path(autoencoder) if name == TUNED else Path(name)
    if name == TUNED and not path.is_file():
        raise UsageError(
            f"no tuned encoder is kept for the decoder of {autoencoder.name!r}; {MAKE_ONE}, or start = encoder"
        )

    def read() -> tuple[Autoencoder, str]:
        return autoencoder.with_encoder(read_tuned_encoder(path, autoencoder)[0]), file_sha256(path)

    state = path.stat() if path.is_file() else None
    key = (str(path), None if state is None else (state.st_mtime_ns, state.st_size))
    found, digest = autoencoder.cache.get("tuned", key, read)
    if wanted and digest != wanted:
        raise UsageError(
            f"start: the tuned encoder {path} is not the one of {start!r} any more: its SHA-256 is {digest}"
        )
    return found, digest


def _split(start: str) -> tuple[str, str]:
    """Return the name or path in `start`, and its digest, "" for none."""
    found = re.fullmatch(r"(.+)@([0-9a-f]{64})", start, re.DOTALL)
    return (found[1], found[2]) if found else (start, "")
