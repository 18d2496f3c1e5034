"""Maps as `.npy` files, each with a JSON file of where it comes from."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path, file_sha256, write_json

SCHEMA = 1
PREFIX = "error_"


def write_npy(folder: Path, name: str, error: np.ndarray, provenance: Mapping[str, Any]) -> Path:
    """Write the (D, H, W) map of the volume `name` as `error_{name}.npy`, float32, and return its path.

    name: such as `vol_p01_L1`, with or without `.npy`. provenance: what the JSON file beside the map says besides its own entries.
    The JSON file is written last, so that a map which has one is complete; both are left as they are where they are the same
    already. Raises `UsageError` for a name that is none.
    """
    if not name or Path(name).name != name:
        raise UsageError(f"{name!r} is no name of a volume; give one such as vol_p01_L1.npy")
    path = folder / f"{PREFIX}{name.removesuffix('.npy')}.npy"
    about = path.with_suffix(".json")
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(error, np.float32))
    facts = {
        **provenance,
        "schema": SCHEMA,
        "volume": name,
        "shape": list(error.shape),
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "mean_error": float(error.mean(dtype=np.float64)),
        "max_error": float(error.max()),
    }
    if _read(about) == json.loads(json.dumps(facts)) and path.is_file() and file_sha256(path) == facts["sha256"]:
        return path
    about.unlink(missing_ok=True)  # an older map's would vouch for one that is being replaced
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    write_json(about, facts)
    return path


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
