"""What a model is, in one hash: coder and decoder compare it before a bit is decoded."""

import hashlib
import json
from dataclasses import asdict

import numpy as np

from ..model.network import HierarchicalCodec
from .tables import TableSet


def model_sha256(model: HierarchicalCodec, tables: TableSet) -> bytes:
    """32 bytes: SHA-256 over the configuration and every tensor that the model's files hold, as docs/codec_format.md says."""
    digest = hashlib.sha256()
    digest.update(json.dumps(asdict(model.configuration), sort_keys=True, separators=(",", ":")).encode())
    arrays = {name: tensor.detach().cpu().float().numpy() for name, tensor in model.state_dict().items()}
    for name, array in sorted({**arrays, **tables.arrays()}.items()):
        kind = "f4" if array.dtype.kind == "f" else "i4"
        digest.update(f"\n{name} {kind} {'x'.join(map(str, array.shape))}\n".encode())
        digest.update(np.ascontiguousarray(array.astype(f"<{kind}")).tobytes())
    return digest.digest()
