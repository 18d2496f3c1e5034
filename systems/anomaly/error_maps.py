"""Error maps |x − x̂| of volumes as `.npy` files, each with a JSON file of where it comes from."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ...engine.errors import UsageError
from ...engine.version import VERSION
from ...exporters.files.atomic import atomic_path, file_sha256, write_json
from .model.checkpoint import read_checkpoint
from .model.vqvae import VQVAE3D

SCHEMA = 1
PREFIX = "error_"


class ErrorMap(NamedTuple):
    """One written map."""

    path: Path
    mean: float  # of |x − x̂| over the voxels, 0 to 1
    maximum: float


def write_error_maps(
    model: VQVAE3D, volumes: Iterable[tuple[str, Tensor]], folder: Path, provenance: Mapping[str, Any]
) -> Iterator[ErrorMap]:
    """Write the map of each named volume as `error_{name}.npy`, float32, (D, H, W), and yield it.

    volumes: names such as `vol_p01_L1`, with or without `.npy`, and (1, D, H, W) fp32 in [0, 1]. provenance: what the JSON file beside
    each map says besides its own entries, such as `checkpoint_provenance` gives it. The JSON file is written last, so
    that a map which has one is complete. Raises `UsageError` for names and shapes that do not fit.
    """
    device = next(model.parameters()).device
    for name, volume in volumes:
        if not name or Path(name).name != name:
            raise UsageError(f"{name!r} is no name of a volume; give one such as vol_p01_L1.npy")
        path = folder / f"{PREFIX}{name.removesuffix('.npy')}.npy"
        error = model.get_reconstruction_error(volume[None].to(device))[0, 0].cpu().numpy()
        about = path.with_suffix(".json")
        about.unlink(missing_ok=True)  # an older map's would vouch for one that is being replaced
        with atomic_path(path) as temporary:
            np.save(temporary, error.astype(np.float32))
        mean, maximum = float(error.mean(dtype=np.float64)), float(error.max())
        own = {"schema": SCHEMA, "volume": name, "shape": list(error.shape), "sha256": file_sha256(path)}
        write_json(about, {**provenance, **own, "mean_error": mean, "max_error": maximum})
        yield ErrorMap(path, mean, maximum)


def checkpoint_provenance(checkpoint: Path) -> dict[str, Any]:
    """What made the maps: the checkpoint's name and SHA-256, its configuration, this package's version.

    Raises `UsageError` where the checkpoint cannot be read.
    """
    return {
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": file_sha256(checkpoint),
        "configuration": read_checkpoint(checkpoint)["hyper_parameters"],
        "relatent": VERSION,
    }
