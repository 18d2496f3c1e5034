"""What tells weights apart, whatever file they were read from."""

import hashlib
from collections.abc import Iterable

import torch
from torch import nn


def weights_sha256(modules: Iterable[nn.Module]) -> str:
    """Return the SHA-256 digest over names, shapes, types and bytes of all parameters and buffers, in hexadecimal."""
    digest = hashlib.sha256()
    for module in modules:
        for key, tensor in sorted(module.state_dict().items()):
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            flat = tensor.detach().cpu().contiguous().view(-1)
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()
