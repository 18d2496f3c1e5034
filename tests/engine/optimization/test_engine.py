"""The step in each of its forms, slots and refill, rewrites, fp32 refinement, caching, batch size."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import PLAIN, assert_same, run_loop, small_kl, started
from relatent import LatentOptimizer, OptimizationConfig, load_autoencoder
from relatent.engine.autoencoders.joined_decoder import JoinedDecoder
from relatent.engine.autoencoders.rewrite import DEFAULT_REWRITES, REWRITES, prepare
from relatent.engine.autoencoders.taef2 import build_decoder
from relatent.engine.losses.metrics import psnr
from relatent.engine.optimization import loop as loops
from relatent.engine.optimization.loop import Loop, get_loop, refinement_iterations
from relatent.engine.optimization.runners import CapturedRunner
from relatent.engine.optimization.slots import NON_FINITE, Slots
from relatent.engine.optimization.step import build_step
from relatent.engine.runtime.device import DTYPES
from relatent.engine.runtime.memory import fastest_batch_size
from relatent.kernels.library import register_operators
from torch import nn

ONLY_TRITON = ("join_norm_and_silu", "join_residuals")
EXACT = OptimizationConfig(iterations=6, precision="fp32", convergence_threshold=0.0)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("loss", ["mse", "huber", "mse + 0.1*ssim"])
def test_kernels_in_the_step_equal_their_reference(small_vae, targets, loss):
    """The Triton kernels, interpreted here, inside the whole iteration."""
    config = OptimizationConfig(iterations=4, loss_function=loss, target_gain=20.0, max_gradient_norm=0.01)
    decoder = small_vae.loop_decoder("fp32")
    slots = {kernels: started(small_vae, targets, config) for kernels in (True, False)}
    for kernels, state in slots.items():
        step = build_step(decoder, config, torch.device("cpu"), triton=kernels)
        for _ in range(4):
            step(state)
    assert_same(slots[True], slots[False])
    assert decoder.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kernels", [False, True])
def test_compiled_step_equals_eager(small_vae, targets, precision, kernels):
    """One fullgraph region, its own backward pass inside, against the same lines run eagerly."""
    config = OptimizationConfig(iterations=4, target_gain=20.0)
    decoder = small_vae.loop_decoder(precision)
    eager, compiled = (started(small_vae, targets, config, decoder.dtype) for _ in range(2))
    step = build_step(decoder, config, torch.device("cpu"), triton=kernels)
    for _ in range(3):
        step(eager)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        register_operators()
        region = torch.compile(step, fullgraph=True, dynamic=False)
        for _ in range(3):
            region(compiled)
    if precision == "fp32":
        assert_same(compiled, eager, 1e-3)
    else:  # sums are rounded elsewhere; Adam turns a rounded sign of a small gradient into a whole step
        torch.testing.assert_close(compiled.losses[:, :3], eager.losses[:, :3], rtol=0.02, atol=1e-3)
    assert compiled.step.tolist() == [3, 3, 3]


def test_on_a_gpu_the_step_would_be_one_region_with_the_kernels_and_no_kept_inputs():
    """Traced as Triton operations, not interpreted: one graph, and no convolution that asks for its input again."""
    pytest.importorskip("triton")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("trace_step.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["graphs"] == 1
    kernels = [name for name in found["operations"] if "triton_kernel_wrapper" in name]
    norms = 1 + 2 * (2 + 4 * 3)  # the end's, and two in each residual block
    assert len(kernels) == 2 + norms * 6, "loss, Adam, and six launches for each norm and its gradient"
    assert any("convolution" in name for name in found["operations"])
    assert not any("convolution_backward" in name for name in found["operations"])


def test_compile_on_runs_compiled_and_is_cached(targets):
    vae = load_autoencoder(small_kl(), device="cpu")
    config = OptimizationConfig(iterations=4, compile="on", precision="fp32", convergence_threshold=0.0)
    latents = vae.encode(targets)
    first = LatentOptimizer(config).optimize_batch(vae, latents, targets)
    (loop,) = vae.cache.values("loops").values()
    assert loop.mode == "compiled"
    assert loop.runner.compile_seconds > 0
    again = LatentOptimizer(config).optimize_batch(vae, latents, targets)
    assert list(vae.cache.values("loops").values()) == [loop], "the same shape and configuration compiled twice"
    eager = LatentOptimizer(OptimizationConfig(**(config.to_dict() | {"compile": "off"})))
    for a, b, c in zip(first, again, eager.optimize_batch(vae, latents, targets), strict=True):
        assert a.losses == b.losses
        assert a.losses == pytest.approx(c.losses, rel=1e-3)


def test_cached_loops_are_bounded_and_go_with_the_weights(targets, monkeypatch):
    vae = load_autoencoder(small_kl(), device="cpu")
    monkeypatch.setattr(loops, "build_runner", lambda step, slots, *rest, **options: loops.EagerRunner(step, slots))
    latents = vae.encode(targets)
    for iterations in range(1, 8):
        config = OptimizationConfig(iterations=iterations, compile="on", precision="fp32")
        get_loop(vae, config, "fp32", latents, targets, bucket=False)
        assert len(vae.cache.values("loops")) == min(iterations, loops.CACHED_LOOPS)
    vae.to(torch.device("cpu"))
    assert not vae.cache.values("loops")


def test_what_does_not_compile_runs_eagerly_and_says_so(small_vae, targets, caplog):
    class Stubborn(nn.Module):
        def forward(self, z):
            torch._dynamo.graph_break()
            return small_vae.decoder(z)

    vae = load_autoencoder(Stubborn(), latent_channels=4, downscale_factor=8)
    config = OptimizationConfig(iterations=3, compile="on", precision="fp32")
    latents = small_vae.encode(targets)
    results = LatentOptimizer(config).optimize_batch(vae, latents, targets)
    assert "does not compile and runs eagerly" in caplog.text
    assert all(result.metrics["psnr_improvement"] > 0 for result in results)


def test_a_free_slot_takes_the_next_image(small_vae, targets):
    """Three images through two slots, the first of which is done early, equal three alone."""
    latents = small_vae.encode(targets)
    targets = targets.clone()
    targets[0] = small_vae.decode(latents[:1])[0].clamp(-1, 1)  # at its optimum: converges at once
    config = OptimizationConfig(
        iterations=12, precision="fp32", convergence_threshold=0.02, convergence_window=3, learning_rate=0.02,
        checkpoint_interval=2,
    )  # fmt: skip
    loop = Loop(small_vae.loop_decoder("fp32"), config, latents[:2], targets[:2])
    loop.load([0, 1], latents[:2], targets[:2])
    order, ends, occupant = [], {}, {0: 0, 1: 1}
    while loop.busy:
        for slot in loop.advance():
            image = occupant[slot]
            order.append(image)
            ends[image] = loop.unload([slot])
            if 2 not in occupant.values():
                occupant[slot] = 2
                loop.load([slot], latents[2:], targets[2:])
    assert order[0] == 0
    assert occupant[0] == 2
    for image, end in ends.items():
        alone = run_loop(
            small_vae.loop_decoder("fp32"), latents[image : image + 1], targets[image : image + 1], config,
            torch.float32,
        )  # fmt: skip
        torch.testing.assert_close(end.losses[0, :-1], alone.losses[0, :-1], rtol=1e-3, atol=1e-6, equal_nan=True)
        assert end.step[0] == alone.step[0]


def test_idle_slots_stay_as_they_are(small_vae, targets):
    """Every slot is computed in a captured graph, also those without an image: nothing of theirs may change."""
    slots = started(small_vae, targets, EXACT)
    slots.active[1] = False
    before = slots.take([1])
    step = build_step(small_vae.loop_decoder("fp32"), EXACT, torch.device("cpu"))
    for _ in range(3):
        step(slots)
    after = slots.take([1])
    for name in set(Slots.names()) - {"losses", "best_history"}:
        assert torch.equal(getattr(after, name), getattr(before, name)), name
    assert torch.isnan(after.losses[:, :-1]).all()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1, 1, 1]), ("linear", [1, 0.75, 0.5]), ("cosine", [1, 0.853553, 0.5]), ("trapezoid", [1, 1, 1])],
)
def test_schedule_follows_each_images_own_step(small_vae, targets, schedule, expected):
    """With β = 0 a step is the rate times the gradient's sign, whatever the gradient."""
    config = OptimizationConfig(
        iterations=4, schedule=schedule, precision="fp32", betas=(0.0, 0.0), learning_rate=0.01, convergence_threshold=0.0, **PLAIN
    )  # fmt: skip
    slots = started(small_vae, targets, config)
    slots.step[1] = 1
    step = build_step(small_vae.loop_decoder("fp32"), config, torch.device("cpu"))
    for i in range(2):
        before = slots.latents.clone()
        step(slots)
        sizes = (slots.latents - before).abs().flatten(1).median(1).values
        assert sizes[:2].tolist() == pytest.approx([0.01 * expected[i], 0.01 * expected[i + 1]], rel=1e-3)


def test_batches_are_bucketed_to_powers_of_two_when_compiled(targets, monkeypatch):
    vae = load_autoencoder(small_kl(), device="cpu")
    monkeypatch.setattr(loops, "build_runner", lambda step, slots, *rest, **options: loops.EagerRunner(step, slots))
    config = OptimizationConfig(iterations=2, compile="on", precision="fp32")
    five = targets[[0, 1, 2, 0, 1]]
    results = LatentOptimizer(config).optimize_batch(vae, vae.encode(five), five)
    assert len(results) == 5
    (loop,) = vae.cache.values("loops").values()
    assert len(loop.slots.active) == 8
    LatentOptimizer(config).optimize_batch(vae, vae.encode(five[:4]), five[:4])
    LatentOptimizer(config).optimize_batch(vae, vae.encode(five[:3]), five[:3])
    assert [len(loop.slots.active) for loop in vae.cache.values("loops").values()] == [8, 4]
    eager = LatentOptimizer(OptimizationConfig(iterations=2, precision="fp32"))
    for found, expected in zip(results, eager.optimize_batch(vae, vae.encode(five), five), strict=True):
        assert found.losses == pytest.approx(expected.losses, rel=1e-4)


def test_gradient_clip(small_vae, targets):
    """The first moment after one step holds (1 − β₁) times the clipped gradient."""
    free, clipped = (
        OptimizationConfig(iterations=1, precision="fp32", max_gradient_norm=limit, **PLAIN) for limit in (None, 1e-3)
    )
    norms = []
    for config in (free, clipped):
        slots = started(small_vae, targets, config)
        build_step(small_vae.loop_decoder("fp32"), config, torch.device("cpu"))(slots)
        norms.append(slots.exp_avg.flatten(1).norm(dim=1) / (1 - config.betas[0]))
    assert (norms[0] > 1e-3).all()
    torch.testing.assert_close(norms[1], torch.full_like(norms[1], 1e-3))


@pytest.mark.parametrize("model", ["kl", "tiny", "taef2", "taesd"])
@pytest.mark.parametrize(
    "rewrites",
    [DEFAULT_REWRITES, tuple(REWRITES), tuple(name for name in REWRITES if name != "recompute_blocks"), ONLY_TRITON],
)
def test_rewritten_decoders_are_the_same_function(model, rewrites):
    torch.manual_seed(3)
    if model == "kl":
        decoder = load_autoencoder(small_kl(), device="cpu").decoder
    elif model == "tiny":
        decoder = load_autoencoder("tiny", device="cpu").decoder
    elif model == "taef2":
        decoder = build_decoder().requires_grad_(False)
    else:
        from diffusers import AutoencoderTiny

        decoder = load_autoencoder(AutoencoderTiny(), device="cpu").decoder
    channels = 32 if model == "taef2" else 4
    z = torch.randn(1, channels, 4, 5, requires_grad=True)
    rewritten = prepare(decoder, torch.float32, rewrites)
    before, after = decoder(z), rewritten(z.contiguous(memory_format=torch.channels_last))
    assert ((after - before).norm() / before.norm()).item() < 1e-5
    pull = torch.randn_like(before)
    expected, found = (torch.autograd.grad(image, z, pull)[0] for image in (before, after))
    assert ((found - expected).norm() / expected.norm()).item() < 1e-4
    assert "fold_upsampling" not in rewrites or not any(
        isinstance(module, nn.Upsample) for module in rewritten.modules()
    )
    if model == "kl" and "join_residuals" in rewrites and "recompute_blocks" not in rewrites:
        assert isinstance(rewritten.decoder, JoinedDecoder)
    assert any(module.padding_mode == "zeros" for module in decoder.modules() if isinstance(module, nn.Conv2d))


def test_each_rewrite_finds_its_places():
    decoder = load_autoencoder(small_kl(), device="cpu").decoder
    counts = {name: rewrite(copy.deepcopy(decoder)) for name, rewrite in REWRITES.items()}
    assert counts["fold_upsampling"] == 3
    assert counts["fold_input"] == 1
    assert counts["join_norm_and_silu"] == sum(type(m) is nn.GroupNorm for m in decoder.modules()) - 1  # attention's
    frozen = copy.deepcopy(decoder)
    assert counts["turn_convolutions"] == 0, "it needs the convolutions of freeze_convolutions"
    assert REWRITES["freeze_convolutions"](frozen) == REWRITES["turn_convolutions"](frozen)
    joined = copy.deepcopy(decoder)
    assert counts["join_residuals"] == 0, "it needs the norms of join_norm_and_silu"
    REWRITES["join_norm_and_silu"](joined)
    assert REWRITES["join_residuals"](joined) == 1
    assert counts["freeze_norms"] == sum(type(m) is nn.GroupNorm for m in decoder.modules())
    assert counts["freeze_convolutions"] == sum(type(m) is nn.Conv2d for m in decoder.modules())


def test_rewrites_leave_alone_what_they_do_not_know():
    odd = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 3, 5, padding=2),
    ).requires_grad_(False)
    z = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(prepare(odd, torch.float32)(z), odd(z))
    kinds = [type(module) for module in prepare(odd, torch.float32)]
    assert kinds[:4] == [nn.Conv2d, nn.Upsample, nn.Conv2d, nn.Upsample]


def test_recomputing_changes_nothing_but_what_is_kept(small_vae, targets):
    latents = small_vae.encode(targets)
    results, kept = [], []
    for recompute in (False, True):
        config = OptimizationConfig(iterations=3, precision="fp32", recompute=recompute)
        results.append(LatentOptimizer(config).optimize_batch(small_vae, latents, targets))
        decode = small_vae.loop_decoder("fp32", recompute)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            decode(latents.clone().requires_grad_(True))
        kept.append(sum(sizes))
    for plain, recomputed in zip(*results, strict=True):
        assert plain.losses == pytest.approx(recomputed.losses, rel=1e-5)
    assert kept[1] < 0.6 * kept[0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_fp32_refinement_runs_the_last_iterations(small_vae, targets, precision, monkeypatch):
    seen = []
    original = small_vae.loop_decoder

    def watched(name, *settings, **options):
        decoder = original(name)
        run = decoder.run
        return replace(decoder, run=lambda z, step: seen.append((z.dtype, z.requires_grad)) or run(z, step))

    monkeypatch.setattr(small_vae, "loop_decoder", watched)
    config = OptimizationConfig(iterations=10, precision=precision, refinement_iterations=3, convergence_threshold=0.0)
    result = LatentOptimizer(config).optimize(small_vae, small_vae.encode(targets[:1]), targets[:1])
    steps = [dtype for dtype, differentiated in seen if differentiated]
    assert steps == [DTYPES[precision]] * 7 + [torch.float32] * 3
    assert len(result.losses) == 10
    assert result.stop_reason == "iterations"
    assert all(loss == loss for loss in result.losses)


@pytest.mark.parametrize(
    ("settings", "device", "expected"),
    [
        ({}, "cpu", 13),
        ({}, "cuda", 0),
        ({"iterations": 2}, "cpu", 1),
        ({"refinement_iterations": 50}, "cuda", 49),
    ],
)
def test_how_many_iterations_refine(settings, device, expected):
    assert refinement_iterations(OptimizationConfig(**settings), torch.device(device)) == expected


def test_bf16_loop_ends_where_fp32_does(targets):
    """Within 0.05 dB, the last iterations being in fp32."""
    vae = load_autoencoder("tiny", device="cpu")
    targets = torch.nn.functional.interpolate(targets[:2], size=64, mode="bilinear")
    latents = vae.encode(targets)
    ends = []
    for precision in ("fp32", "bf16"):
        config = OptimizationConfig(iterations=30, precision=precision)
        results = LatentOptimizer(config).optimize_batch(vae, latents, targets)
        ends.append(sum(result.metrics["final_psnr"] for result in results) / len(results))
    assert ends[1] == pytest.approx(ends[0], abs=0.05)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("target", ["target_gain", "target_psnr"])
def test_a_target_is_met_in_fp32_whatever_the_loop_runs_in(small_vae, targets, precision, target):
    latents = small_vae.encode(targets)
    best = psnr(small_vae.decode(latents), targets).max().item()
    goal = {"target_gain": 0.4, "target_psnr": best + 0.05}
    metric = {"target_gain": "psnr_improvement", "target_psnr": "final_psnr"}
    config = OptimizationConfig(iterations=80, precision=precision, convergence_threshold=0.0, **{target: goal[target]})
    for result in LatentOptimizer(config).optimize_batch(small_vae, latents, targets):
        assert result.stop_reason == "target"
        assert result.metrics[metric[target]] >= goal[target] - 1e-3


def test_nothing_global_is_changed(small_vae, targets):
    before = (
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark, torch.get_num_threads(),
        torch._dynamo.config.trace_autograd_ops, torch._dynamo.config.recompile_limit, torch.is_grad_enabled(),
    )  # fmt: skip
    config = OptimizationConfig(iterations=2, compile="on", precision="fp32")
    LatentOptimizer(config).optimize_batch(small_vae, small_vae.encode(targets), targets)
    after = (
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark, torch.get_num_threads(),
        torch._dynamo.config.trace_autograd_ops, torch._dynamo.config.recompile_limit, torch.is_grad_enabled(),
    )  # fmt: skip
    assert after == before


@pytest.mark.parametrize(
    ("per_image", "fits", "count", "expected"),
    [
        ({1: 1.0, 2: 0.7, 4: 0.6, 8: 0.6, 16: 0.5}, 64, 100, 4),
        ({1: 1.0, 2: 0.7, 4: 0.6, 8: 0.5, 16: 0.4}, 8, 100, 8),
        ({1: 1.0, 2: 1.1}, 64, 100, 1),
        ({1: 1.0, 2: 0.7, 4: 0.6, 8: 0.5}, 64, 3, 3),
    ],
)
def test_auto_takes_the_largest_batch_that_pays(per_image, fits, count, expected):
    def seconds(size):
        if size > fits:
            raise torch.OutOfMemoryError("full")
        return per_image[size] * size

    assert fastest_batch_size(seconds, count) == expected


@pytest.mark.gpu
@gpu
def test_captured_equals_eager_and_follows_its_inputs(targets):
    """Capture on three images, replay on others moved into the same slots, with one refilled: eager is the judge."""
    vae = load_autoencoder(small_kl(), device="cuda")
    targets = targets.cuda()
    latents = vae.encode(targets)
    config = OptimizationConfig(iterations=6, precision="fp32", convergence_threshold=0.0, checkpoint_interval=3)
    captured, eager = (
        get_loop(vae, replace(config, compile=form), "fp32", latents, targets, bucket=False) for form in ("auto", "off")
    )
    assert isinstance(captured.runner, CapturedRunner)
    for order in ([0, 1, 2], [2, 0, 1]):
        ends = []
        for loop in (captured, eager):
            loop.load([0, 1, 2], latents[order], targets[order])
            while len(loop.advance()) < 3:
                pass
            ends.append(loop.unload([0, 1, 2]))
        found, expected = ends
        torch.testing.assert_close(found.losses[:, :-1], expected.losses[:, :-1], rtol=1e-3, atol=1e-5)
        assert (found.stop_code != NON_FINITE).all()


@pytest.mark.gpu
@gpu
def test_a_chunk_does_not_synchronise(targets):
    vae = load_autoencoder(small_kl(), device="cuda")
    targets = targets.cuda()
    loop = get_loop(vae, OptimizationConfig(iterations=10), "bf16", vae.encode(targets), targets, bucket=False)
    loop.load([0, 1, 2], vae.encode(targets), targets)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loop.runner.run(loop.chunk)
    finally:
        torch.cuda.set_sync_debug_mode("default")
