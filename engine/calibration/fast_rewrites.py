"""Which rewrites a decoder runs with in the loop: in 16 bits more of them, on a GPU once they have shown that they hold there."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...kernels.library import runs_on
from ..autoencoders.autoencoder import Autoencoder
from ..autoencoders.rewrite import CPU_REWRITES, DEFAULT_REWRITES, FAST_REWRITES
from ..errors import first_line
from ..runtime.cuda_flags import exact_fp32
from ..runtime.device import DTYPES
from .preconditioner import SEED

logger = logging.getLogger(__name__)

CELLS = 64  # a side of the latents that are tried, at most: fp32 and a gradient take memory
TIMES = 3.0  # the plain rewrites' error against fp32 that the fast ones may have; up to 1.7 was seen
FLOOR = 2.0**-7  # or this much of the norm, if that is more: one unit in the last place of bf16


def loop_rewrites(autoencoder: Autoencoder, precision: str, latents: torch.Tensor) -> tuple[str, ...]:
    """Return the rewrites for latents like (B, *latent shape) `latents`, whose device and shape count, in `precision`.

    They are `autoencoder.rewrites`. Where those are the default ones and the precision has 16 bits, they are `CPU_REWRITES` on a
    CPU, and on a device with Triton `FAST_REWRITES`, if output and gradient of one random latent are right there. If
    not, that is logged.
    """
    plain = tuple(autoencoder.rewrites)
    known = isinstance(autoencoder.decoder, nn.Module) and type(autoencoder).loop_decoder is Autoencoder.loop_decoder
    if plain != DEFAULT_REWRITES or not known or precision == "fp32":
        return plain
    if not _on_gpu(latents.device):
        return CPU_REWRITES if latents.device.type == "cpu" else plain
    shape = (1, latents.shape[1], *(min(side, CELLS) for side in latents.shape[2:]))
    return autoencoder.cache.get(
        "fast_rewrites", (precision, shape), lambda: FAST_REWRITES if _hold(autoencoder, precision, shape) else plain
    )


def loop_options(autoencoder: Autoencoder, precision: str, latents: torch.Tensor) -> dict[str, Any]:
    """Return `loop_rewrites` as an argument of `autoencoder.loop_decoder`; nothing where they are the autoencoder's own, so
    that a subclass whose decoder has none need not know of them."""
    rewrites = loop_rewrites(autoencoder, precision, latents)
    return {} if rewrites == tuple(autoencoder.rewrites) else {"rewrites": rewrites}


def _on_gpu(device: torch.device) -> bool:
    return device.type == "cuda" and runs_on(device)


@exact_fp32()
def _hold(autoencoder: Autoencoder, precision: str, shape: tuple[int, ...]) -> bool:
    """Whether output and gradient have at most `TIMES` the error that the plain rewrites have in the same precision."""
    generator = torch.Generator().manual_seed(SEED)
    latents = torch.randn(shape, generator=generator).to(autoencoder.device)
    exact = autoencoder.loop_decoder("fp32")
    try:
        with torch.no_grad():
            pull = torch.randn(exact(latents).shape, generator=generator).to(latents)
        expected, plain, fast = (
            _output_and_gradient(decoder, latents.to(dtype), pull)
            for decoder, dtype in (
                (exact, torch.float32),
                (autoencoder.loop_decoder(precision), DTYPES[precision]),
                (autoencoder.loop_decoder(precision, rewrites=FAST_REWRITES), DTYPES[precision]),
            )
        )
        for name, right, usual, found in zip(("output", "gradient"), expected, plain, fast, strict=True):
            error, bound = (float((each - right).norm() / right.norm()) for each in (found, usual))
            if not error <= max(TIMES * bound, FLOOR):  # NaN is not
                raise ArithmeticError(f"their {name} is off by {error:.3f} of its norm, {bound:.3f} without them")
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of the compiler of kernels, of the driver, or the one above
        logger.warning("the fast rewrites of %s are left out, which is slower: %s", autoencoder.name, first_line(error))
        return False
    return True


def _output_and_gradient(
    decode: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor, pull: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return decode(latents) and the gradient of ⟨that, pull⟩, both in fp32."""
    with torch.enable_grad():
        latents = latents.detach().requires_grad_(True)
        output = decode(latents)
        (gradient,) = torch.autograd.grad(output, latents, pull.to(output))
    return output.detach().float(), gradient.float()
