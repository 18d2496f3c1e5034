"""Pictures through the decoders of Qwen-Image and Wan: in 3-D as diffusers decodes a clip of one frame, and in 2-D.

    python -m relatent.benchmarks.bench_single_frame [--size N] [--repeats N] [--dry]

The decoders are of their published shapes with random weights, the same in every column. A row is only printed where values
and gradients agree. Forward, and backward to the latent; medians of rounds in which each takes its turn, all in one run. Writes
benchmarks/results/single_frame-*.json; with --dry it does not.
"""

import argparse
import copy
import statistics
from functools import partial
from typing import Any

import torch

from ..engine.autoencoders.families.registry import wrap
from ..engine.runtime.device import resolve_device
from .results import command_line, run_main, write_result
from .timing import measure

WAN22 = dict(
    base_dim=160, decoder_base_dim=256, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
    latents_mean=[0.0] * 48, latents_std=[1.0] * 48,
)  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen-image": ("AutoencoderKLQwenImage", {}),
    "wan22": ("AutoencoderKLWan", WAN22),
}
TOLERANCE = 1e-5  # of values in [-1, 1], and of the largest gradient


def compare(kind: str, settings: dict[str, Any], size: int, device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds in 3-D, in 2-D as loaded and as the loop runs it, and how far values and gradients are apart.

    Raises `RuntimeError` where they are not the same.
    """
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, kind)(**settings).eval().requires_grad_(False).to(device)
    vae = wrap(copy.deepcopy(model), kind)
    side = size // (vae.downscale_factor or 1)
    latents = torch.randn(1, vae.latent_channels or 0, side, side, device=device)
    run = vae.loop_decoder("fp32")
    decoders = {
        "3d": lambda z: model.decode(z.unsqueeze(2), return_dict=False)[0][:, :, 0],
        "2d": lambda z: vae.decode(z).clamp(-1, 1),
        "2d_loop": lambda z: run(z).clamp(-1, 1),
    }

    def step(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        z = latents.clone().requires_grad_()
        output = decoders[name](z)
        output.square().mean().backward()
        assert z.grad is not None
        return output.detach(), z.grad

    output, gradient = step("3d")
    found = {"value_error": 0.0, "gradient_error": 0.0}
    for name in ("2d", "2d_loop"):
        other, other_gradient = step(name)
        apart = (other - output).abs().max().item()
        gradient_apart = ((other_gradient - gradient).abs().max() / gradient.abs().max()).item()
        if name == "2d":
            found = {"value_error": apart, "gradient_error": gradient_apart}
        if max(apart, gradient_apart) > TOLERANCE * (1 if name == "2d" else 10):
            raise RuntimeError(f"{kind} {name}: values differ by {apart:.1e}, gradients by {gradient_apart:.1e}")
    rounds = []
    for _ in range(repeats):  # in turns, so that what else the machine does falls on all of them
        rounds.append({name: measure(partial(step, name), device, 1, 0)["median"] for name in decoders})
    for name in decoders:
        found[f"{name}_seconds"] = statistics.median(times[name] for times in rounds)
    found["ratio"] = statistics.median(times["3d"] / times["2d"] for times in rounds)
    found["ratio_loop"] = statistics.median(times["3d"] / times["2d_loop"] for times in rounds)
    return found


def main() -> None:
    """Run both decoders and print a row of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, metavar="N", help="side in pixels (default: 128)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed calls of each (default: 5)")
    parser.add_argument("--dry", action="store_true", help="write no file")
    options = parser.parse_args()
    device = resolve_device(options.device)
    rows = {}
    for name, (kind, settings) in MODELS.items():
        rows[name] = compare(kind, settings, options.size, device, options.repeats)
        print(name, {key: float(f"{value:.3g}") for key, value in rows[name].items()}, flush=True)
    if not options.dry:
        content = {"size": options.size, "threads": torch.get_num_threads(), "decoders": rows}
        print(write_result("single_frame", device, command_line("bench_single_frame"), content))


if __name__ == "__main__":
    run_main(main)
