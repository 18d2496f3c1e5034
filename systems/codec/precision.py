"""The precision that sums over a picture need."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """x in float32 where it is of 16 bits, as autocast makes it, else itself; any shape."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
