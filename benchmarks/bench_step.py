"""One iteration of the exact Stable Diffusion decoder, eager, compiled and captured, compared with the original loop.

pytest benchmarks/bench_step.py           on any machine; a small decoder where there is no GPU
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from relatent.benchmarks.peers import original_loop
from relatent.benchmarks.sd_decoder import SDDecoder, widths
from relatent.engine.autoencoders.autoencoder import Autoencoder
from relatent.engine.autoencoders.rewrite import DEFAULT_REWRITES, FAST_REWRITES, LowRank
from relatent.engine.losses.metrics import psnr
from relatent.engine.optimization.config import OptimizationConfig
from relatent.engine.optimization.loop import coordinates_of
from relatent.engine.optimization.presets import preset
from relatent.engine.optimization.runners import CapturedRunner, CompiledRunner, EagerRunner, Runner, make_runner
from relatent.engine.optimization.slots import Slots
from relatent.engine.optimization.step import build_step

PER_REPLAY = 10
ENDLESS = OptimizationConfig(iterations=100_000, convergence_threshold=0.0, checkpoint_interval=PER_REPLAY)

# Name -> rewrites, and whether activations are recomputed in the backward pass.
DECODERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "as published": ((), False),
    "rewritten": (DEFAULT_REWRITES, False),
    "rewritten, norm kernel": ((*DEFAULT_REWRITES, "join_norm_and_silu"), False),
    "production": (FAST_REWRITES, False),
    "recomputing": (DEFAULT_REWRITES, True),
}


class Problem:
    """An optimisation problem with a known solution: the targets are the decoder's own images of other latents."""

    def __init__(self, device: torch.device, small: bool = False):
        channels, groups = widths(small)
        decoder = SDDecoder(channels=channels, groups=groups).to(device)
        # With random weights the images have low contrast; the last layer is scaled to a photograph's standard
        # deviation.
        with torch.no_grad():
            probe = decoder(torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).to(device))
            # rounded, so that what is kept by the SHA-256 of the weights holds however a device rounds
            decoder.decoder.conv_out.weight.mul_(float(f"{0.4 / probe.std().item():.2g}"))
        self.device, self.decoder = device, decoder
        self.autoencoder = Autoencoder(decoder, name="sd15, random weights", latent_channels=4, downscale_factor=8)

    def batch(self, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return starts (count, 4, size/8, size/8) and targets (count, 3, size, size); deterministic in its arguments."""
        generator = torch.Generator().manual_seed(0)
        truth = torch.randn(count, 4, size // 8, size // 8, generator=generator).to(self.device)
        with torch.no_grad():
            targets = torch.cat([self.decoder(z[None]).clamp(-1, 1) for z in truth])
        noise = torch.randn(truth.shape, generator=generator).to(self.device)
        return truth + 0.5 * noise, targets

    def slots(
        self, decoder: str, precision: str, batch: int, size: int, config: OptimizationConfig = ENDLESS,
        low_rank: LowRank | None = None,
    ) -> tuple[Slots, Any]:  # fmt: skip
        """Return loaded slots and the iteration over them, for one of `DECODERS`; low_rank: of its backward pass."""
        self.autoencoder.rewrites, recompute = DECODERS[decoder]
        loop_decoder = self.autoencoder.loop_decoder(precision, recompute, low_rank)
        latents, targets = self.batch(batch, size)
        coordinates = coordinates_of(self.autoencoder, tuple(latents.shape[1:]), config.precondition)
        slots = Slots.empty(latents, targets, config, loop_decoder.dtype, coordinates=coordinates)
        slots.load(list(range(batch)), latents, targets, config)
        return slots, build_step(loop_decoder, config, self.device)


def forms(
    problem: Problem, decoder: str, batch: int, size: int, wanted: tuple[str, ...]
) -> Iterator[tuple[str, Runner]]:
    """Yield name and runner of each of `wanted` (eager, compiled, captured), in bf16; a captured one is a CUDA graph of
    the compiled one.
    """
    slots, step = problem.slots(decoder, "bf16", batch, size)
    runner: EagerRunner | CompiledRunner = EagerRunner(step, slots)
    if "eager" in wanted:
        yield "eager", runner
    if not DECODERS[decoder][1] and {"compiled", "captured"} & set(wanted):
        runner = CompiledRunner(step, slots)
        if "compiled" in wanted:
            yield "compiled", runner
    if "captured" in wanted and problem.device.type == "cuda":
        yield "captured", CapturedRunner(runner, PER_REPLAY)


def equal_quality(problem: Problem, size: int, iterations: int, form: str) -> dict[str, float]:
    """Return the gain in dB of the original loop and of the engine's bf16 loop, with the same images, learning rate,
    betas and number of iterations.
    """
    count, rate = 2, 0.05
    config = preset("original", iterations=iterations, learning_rate=rate, checkpoint_interval=10)
    slots, step = problem.slots("rewritten", "bf16", count, size, config)
    latents, targets = slots.initial, slots.targets
    make_runner(step, slots, form, PER_REPLAY).run(iterations)
    with torch.no_grad():
        start = psnr(problem.decoder(latents), targets).mean().item()
        relatent_psnr = psnr(problem.decoder(slots.latents.detach()), targets).mean().item()
    ends = [
        original_loop(problem.decoder, latents[i : i + 1], targets[i : i + 1], rate, iterations) for i in range(count)
    ]
    with torch.no_grad():
        original_psnr = psnr(problem.decoder(torch.cat(ends)), targets).mean().item()
    return {"start_db": start, "original_gain_db": original_psnr - start, "relatent_gain_db": relatent_psnr - start}


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("form", ["eager", "compiled", "captured"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_iteration(benchmark: Any, decoder: str, form: str) -> None:
    """Time ten iterations of one image at 256² with pytest-benchmark (without a GPU 32² and a small decoder)."""
    small = DEVICE.type == "cpu"
    made = dict(forms(Problem(DEVICE, small), decoder, 1, 32 if small else 256, (form,)))
    if form not in made:
        pytest.skip("needs a GPU" if form == "captured" else "recomputing is not compiled")

    def call() -> None:
        made[form].run(PER_REPLAY)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark.extra_info.update(decoder=decoder, form=form, iterations=PER_REPLAY)
    benchmark.pedantic(call, rounds=5, warmup_rounds=1)
