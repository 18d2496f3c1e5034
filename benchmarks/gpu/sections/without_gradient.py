"""Section: decoding and encoding without a gradient, in fp32, tuned or not, with TF32, and in bf16.

That is what a picture costs beside its iterations: the comparison of a result with its start decodes both in fp32, and a
warm start encodes. The decoder's weights are random, so are the encoder's.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from ....engine.loop_decoder import LoopDecoder
from ....engine.losses.metrics import psnr
from ....engine.runtime.cuda_flags import exact_fp32, in_new_thread, tuned_convolutions
from ...bench_step import Problem
from ...sd_decoder import widths
from ...timing import measure
from ..section import Measurement, Rates, Result
from .encoder import SDEncoder

NEEDS_GPU = ""
# the setting of fp32 operations, the precision, tuned or not; torch's own setting has TF32 in convolutions, on CUDA
Way = tuple[Callable[[], AbstractContextManager[None]], str, bool]
WAYS: dict[str, Way] = {
    "fp32": (exact_fp32, "fp32", False),
    "fp32, tuned": (exact_fp32, "fp32", True),
    "fp32 with TF32 convolutions": (nullcontext, "fp32", False),
    "bf16": (nullcontext, "bf16", False),
}


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    wanted = [(32, 1, 4.0)] if quick else [(512, 1, 4.0), (512, 8, 16.0)]
    return [(f"{size}², batch {batch}", seconds, {"size": size, "batch": batch}) for size, batch, seconds in wanted]


def prepare(device: torch.device, quick: bool, size: int, batch: int) -> Measurement:
    problem = Problem(device, quick)
    autoencoder = problem.autoencoder
    autoencoder.encoder = SDEncoder(*widths(quick)).to(device)
    latents, targets = problem.batch(batch, size)

    def measurement(_rates: Rates) -> Result:
        rows: dict[str, Result] = {}
        exact: list[torch.Tensor] = []

        @torch.no_grad()
        def run(name: str) -> None:
            setting, precision, tuned = WAYS[name]
            decode = partial(_decode, autoencoder.loop_decoder(precision), latents)
            encode = partial(autoencoder.encode, targets, precision)
            with setting(), tuned_convolutions() if tuned else nullcontext():
                found = [decode(), encode()]
                if not exact:
                    exact.extend(found)
                errors = [((f - e).norm() / e.norm()).item() for f, e in zip(found, exact, strict=True)]
                rows[name] = {
                    "decode_seconds": measure(decode, device, repeats=5, warm_up=1),
                    "encode_seconds": measure(encode, device, repeats=5, warm_up=1),
                    "decode_error": errors[0],
                    "encode_error": errors[1],
                    "psnr_db": psnr(found[0].clamp(-1.0, 1.0), targets).mean().item(),
                }

        for name in WAYS:
            in_new_thread(partial(run, name))
        return {"rows": rows}

    return measurement


def _decode(decoder: LoopDecoder, latents: torch.Tensor) -> torch.Tensor:
    return decoder(latents.to(decoder.dtype)).float()
