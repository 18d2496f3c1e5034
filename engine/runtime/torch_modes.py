"""torch's modes that a caller may have set, and that the engine must not compute in."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def default_modes(device: torch.device) -> Iterator[None]:
    """Compute on `device` as a program does that has set nothing: outside inference mode, in which there are no gradients and
    tensors made there have none later either; without autocast, which would round what is promised in fp32; and with fp32
    as the default type. The default type is the process's, so other threads see it too, where it was another one.
    """
    default = torch.get_default_dtype()
    with contextlib.ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        if torch.is_autocast_enabled(device.type):
            modes.enter_context(torch.autocast(device.type, enabled=False))
        if default != torch.float32:
            modes.callback(torch.set_default_dtype, default)
            torch.set_default_dtype(torch.float32)
        yield
