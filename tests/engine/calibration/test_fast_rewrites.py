"""The fast rewrites: a small Stable Diffusion decoder in 16 bits against the original, and what happens where they fail.

The Triton kernels run in the interpreter, on the CPU, which the tests take for a GPU.
"""

import pytest
import torch
from relatent import Autoencoder, OptimizationConfig
from relatent.benchmarks.sd_decoder import SDDecoder
from relatent.engine.autoencoders import rewrite
from relatent.engine.autoencoders.attention import SpatialAttention
from relatent.engine.autoencoders.joined_decoder import JoinedDecoder
from relatent.engine.autoencoders.rewrite import CPU_REWRITES, DEFAULT_REWRITES, FAST_REWRITES, prepare
from relatent.engine.calibration import fast_rewrites
from relatent.engine.calibration.fast_rewrites import loop_rewrites
from relatent.engine.optimization import loop as loops

LATENTS = torch.empty(2, 4, 4, 5)
NORMS = "relatent.engine.autoencoders.joined_decoder.group_norm_silu"


@pytest.fixture
def vae():
    """Two levels of four, which the interpreter runs in a second."""
    return Autoencoder(SDDecoder(channels=(8, 16), groups=4), name="sd", latent_channels=4, downscale_factor=2)


@pytest.fixture
def on_gpu(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(fast_rewrites, "_on_gpu", lambda device: True)


def output_and_gradient(decoder, z, pull):
    z = z.clone().requires_grad_(True)
    output = decoder(z)
    return output.detach().double(), torch.autograd.grad(output, z, pull.to(output))[0].double()


@pytest.mark.parametrize(
    ("dtype", "bounds"), [(torch.bfloat16, (0.06, 0.15)), (torch.float16, (0.006, 0.015))], ids=["bf16", "fp16"]
)
def test_the_fast_decoder_is_the_original_but_for_rounding(dtype, bounds):
    """From end to end, all four levels. Bounds: of the norm, for output and gradient; and 3 times the plain rewrites' error,
    which for this decoder of few channels is 2 to 4 % and 4 to 8 % in bf16."""
    pytest.importorskip("triton")
    torch.manual_seed(0)
    original = SDDecoder(channels=(8, 8, 16, 16), groups=4)
    z, pull = torch.randn(1, 4, 4, 5), torch.randn(1, 3, 32, 40)
    expected = output_and_gradient(original.double(), z.double(), pull)
    original.float()
    plain = output_and_gradient(prepare(original, dtype), z.to(dtype), pull)
    decoder = prepare(original, dtype, FAST_REWRITES)
    assert isinstance(decoder.decoder, JoinedDecoder)
    assert isinstance(decoder.decoder.mid_block.attentions[0], SpatialAttention)
    fast = output_and_gradient(decoder, z.to(dtype), pull)
    for found, usual, right, bound in zip(fast, plain, expected, bounds, strict=True):
        error, rounding = ((each - right).norm().item() / right.norm().item() for each in (found, usual))
        assert error <= bound
        assert error <= 3 * rounding


def test_they_are_the_default_where_they_hold(vae, on_gpu, caplog):
    assert loop_rewrites(vae, "bf16", LATENTS) == FAST_REWRITES
    assert loop_rewrites(vae, "fp32", LATENTS) == DEFAULT_REWRITES, "fp32 decides what is kept: nothing is added there"
    assert not caplog.messages
    config = OptimizationConfig(iterations=2, compile="off", precondition=False, gradient_error=0.0)
    loop = loops.get_loop(vae, config, "bf16", LATENTS, torch.empty(2, 3, 8, 10), bucket=False)
    assert any(key[2] == FAST_REWRITES for key in vae.cache.values("copies"))
    assert not loop.exact
    vae.rewrites = ("freeze_convolutions",)
    assert loop_rewrites(vae, "bf16", LATENTS) == vae.rewrites, "what a caller has chosen stays"


@pytest.mark.parametrize("wrong", ["value", "nan", "error"])
def test_where_they_fail_the_plain_ones_run_and_the_log_says_so(vae, on_gpu, monkeypatch, caplog, wrong):
    from relatent.engine.autoencoders.joined_decoder import group_norm_silu

    calls = []

    def broken(*arguments, **options):
        calls.append(arguments)
        y, total = group_norm_silu(*arguments, **options)
        if wrong == "error":
            raise RuntimeError("out of resource: shared memory\nmore")
        return y * (1.5 if wrong == "value" else float("nan")) if len(calls) == 3 else y, total

    monkeypatch.setattr(NORMS, broken)
    for _ in range(2):
        assert loop_rewrites(vae, "bf16", LATENTS) == DEFAULT_REWRITES
    (message,) = caplog.messages
    reason = "out of resource: shared memory" if wrong == "error" else "their output is off by"
    assert "the fast rewrites of sd are left out, which is slower: " + reason in message


def test_a_gpu_out_of_memory_is_not_a_failure_of_theirs(vae, on_gpu, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(NORMS, full)
    with pytest.raises(torch.OutOfMemoryError):
        loop_rewrites(vae, "bf16", LATENTS)


def test_elsewhere_nothing_is_tried(vae, monkeypatch):
    monkeypatch.setattr(fast_rewrites, "_hold", lambda *arguments: pytest.fail("tried"))
    assert loop_rewrites(vae, "bf16", LATENTS.to("meta")) == DEFAULT_REWRITES
    assert loop_rewrites(vae, "fp32", LATENTS) == DEFAULT_REWRITES
    assert loop_rewrites(vae, "bf16", LATENTS) == CPU_REWRITES
    loops.get_loop(
        vae,
        OptimizationConfig(iterations=2, precondition=False),
        "bf16",
        LATENTS,
        torch.empty(2, 3, 8, 10),
        bucket=False,
    )
    (copied,) = (module for key, module in vae.cache.values("copies").items() if key[1] == "bf16")
    assert isinstance(copied.decoder.mid_block.attentions[0], SpatialAttention)
    monkeypatch.setattr(fast_rewrites, "_on_gpu", lambda device: True)
    plain = Autoencoder(lambda z: z, name="function")
    assert loop_rewrites(plain, "bf16", LATENTS) == DEFAULT_REWRITES
    assert set(FAST_REWRITES) <= set(rewrite.REWRITES)
