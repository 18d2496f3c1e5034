"""Section: decoding and encoding without a gradient, in fp32, with TF32, and in bf16.

That is what a picture costs beside its iterations: the comparison of a result with its start decodes both in fp32, and a
warm start encodes. The decoder's weights are random, so are the encoder's.
"""

import contextlib
from functools import partial
from typing import Any

import torch

from ....engine.loop_decoder import LoopDecoder
from ....engine.losses.metrics import psnr
from ....engine.runtime.cuda_flags import exact_fp32
from ...bench_step import Problem
from ...sd_decoder import widths
from ...timing import measure
from ..section import Measurement, Rates, Result
from .encoder import SDEncoder

NEEDS_GPU = ""
# name -> the setting of fp32 operations, and the precision; torch's own setting has TF32 in convolutions, on CUDA
WAYS: dict[str, tuple[Any, str]] = {
    "fp32": (exact_fp32, "fp32"),
    "fp32 with TF32 convolutions": (contextlib.nullcontext, "fp32"),
    "bf16": (contextlib.nullcontext, "bf16"),
}


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    wanted = [(32, 1)] if quick else [(512, 1), (512, 8)]
    return [(f"{size}², batch {batch}", 4.0, {"size": size, "batch": batch}) for size, batch in wanted]


def prepare(device: torch.device, quick: bool, size: int, batch: int) -> Measurement:
    problem = Problem(device, quick)
    autoencoder = problem.autoencoder
    autoencoder.encoder = SDEncoder(*widths(quick)).to(device)
    latents, targets = problem.batch(batch, size)

    @torch.no_grad()
    def measurement(_rates: Rates) -> Result:
        rows: dict[str, Result] = {}
        exact: list[torch.Tensor] = []
        for name, (setting, precision) in WAYS.items():
            decode = partial(_decode, autoencoder.loop_decoder(precision), latents)
            encode = partial(autoencoder.encode, targets, precision)
            with setting():
                found = [decode(), encode()]
                exact = exact or found
                errors = [((f - e).norm() / e.norm()).item() for f, e in zip(found, exact, strict=True)]
                rows[name] = {
                    "decode_seconds": measure(decode, device, repeats=10),
                    "encode_seconds": measure(encode, device, repeats=10),
                    "decode_error": errors[0],
                    "encode_error": errors[1],
                    "psnr_db": psnr(found[0].clamp(-1.0, 1.0), targets).mean().item(),
                }
        return {"rows": rows}

    return measurement


def _decode(decoder: LoopDecoder, latents: torch.Tensor) -> torch.Tensor:
    return decoder(latents.to(decoder.dtype)).float()
