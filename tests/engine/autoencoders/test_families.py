"""Every class of diffusers' autoencoders, as a tiny random model: saved, loaded, and against diffusers itself."""

import math

import pytest
import relatent
import torch
from helpers import PLAIN
from relatent import OptimizationConfig
from relatent.engine.autoencoders.families.registry import PICTURES, VIDEO
from relatent.engine.autoencoders.rewrite import CPU_REWRITES, FAST_REWRITES
from tiny_autoencoders import CASES, diffusers_decode, diffusers_encode, make


def skip_without_transformers(name):
    if CASES[name].kind == "AutoencoderRAE":
        pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")


@pytest.fixture(scope="module", params=CASES)
def loaded(request, tmp_path_factory):
    """The case, the model of diffusers, and the autoencoder loaded from what it saved."""
    skip_without_transformers(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    model = make(request.param)
    model.save_pretrained(folder)
    return CASES[request.param], model, relatent.load_autoencoder(folder, device="cpu")


def test_every_known_class_has_a_case():
    assert {case.kind for case in CASES.values()} == {*PICTURES, *VIDEO}


def test_encodes_and_decodes_as_diffusers_does(loaded, images):
    case, model, vae = loaded
    assert (vae.latent_channels, vae.downscale_factor) == (case.channels, case.factor)
    assert vae.native_size % case.factor == 0
    latents = vae.encode(images)
    assert latents.shape == (2, case.channels, 64 // case.factor, 64 // case.factor)
    torch.testing.assert_close(latents, diffusers_encode(model, case, images), rtol=1e-5, atol=1e-5)
    latents = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)) * latents.std() + latents
    with torch.no_grad():
        expected = diffusers_decode(model, case, latents)
        torch.testing.assert_close(vae.decode(latents).clamp(-1, 1), expected, rtol=1e-5, atol=1e-5)
        run = vae.loop_decoder("fp32")
        torch.testing.assert_close(run(latents).clamp(-1, 1), expected, rtol=1e-4, atol=1e-4)


def test_gradient_is_that_of_diffusers(loaded, images):
    case, model, vae = loaded
    start = vae.encode(images[:1])
    gradients = []
    loops = (vae.loop_decoder("fp32"), vae.loop_decoder("fp32", recompute=True))
    for decode in (lambda z: diffusers_decode(model, case, z), vae.decode, *loops):
        latents = start.clone().requires_grad_()
        (decode(latents).clamp(-1, 1) - images[:1]).square().sum().backward()
        gradients.append(latents.grad)
    scale = gradients[0].abs().max().item()
    assert scale > 0.0
    for found in gradients[1:]:
        torch.testing.assert_close(found, gradients[0], rtol=1e-4, atol=1e-4 * scale)


def test_optimises(loaded, images):
    _case, _model, vae = loaded
    config = OptimizationConfig(iterations=2, precision="fp32", **PLAIN)
    results = relatent.LatentOptimizer(config).optimize_batch(vae, vae.encode(images), images)
    for result in results:
        assert torch.isfinite(result.optimized_latents).all()
        assert math.isfinite(result.metrics["final_psnr"])
        assert result.metrics["loss_reduction"] >= 0.0


@pytest.mark.parametrize("rewrites", [CPU_REWRITES, FAST_REWRITES], ids=["cpu", "fast"])
def test_bfloat16_decodes_and_differentiates(loaded, images, rewrites):
    _case, _model, vae = loaded
    latents = vae.encode(images[:1])
    exact = vae.decode(latents)
    low = latents.to(torch.bfloat16).requires_grad_()
    # The fast rewrites are not for a CPU: the gradient of a convolution of clips to 3 channels is then one from 3 channels, for
    # which oneDNN 3.13 gives NaN or worse where the processor has AMX and the clip is one frame.
    with torch.backends.mkldnn.flags(enabled=rewrites is CPU_REWRITES):
        output = vae.loop_decoder("bf16", rewrites=rewrites)(low)
        output.float().square().mean().backward()
    assert torch.isfinite(low.grad).all()
    assert (output.float() - exact).square().mean().sqrt() < 0.1 * exact.std() + 0.02
    encoded = vae.encode(images[:1], "bf16")
    assert encoded.dtype == torch.float32
    assert (encoded - latents).norm() < 0.05 * latents.norm()


def test_scaling_is_the_configurations(loaded, images):
    case, model, vae = loaded
    latents, config = vae.encode(images), model.config
    if case.kind == "AutoencoderKLFlux2":
        b, c, h, w = latents.shape
        packed = latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)
        mean, var = model.bn.running_mean.view(1, -1, 1, 1), model.bn.running_var.view(1, -1, 1, 1)
        expected = (packed - mean) / torch.sqrt(var + config.batch_norm_eps)
    elif case.kind == "AutoencoderRAE":
        expected = latents  # diffusers normalises inside `encode`
    else:
        factor = config.get("scaling_factor", None) or 1.0
        mean, std = config.get("latents_mean", None), config.get("latents_std", None)
        if case.kind in ("AutoencoderKLLTXVideo", "AutoencoderKLLTX2Video"):
            mean, std = model.latents_mean, model.latents_std
        if case.kind == "AutoencoderKLCosmos":
            mean, std = (torch.tensor(values).view(16, -1)[:, 0] for values in (mean, std))
        if mean is None:
            expected = (latents - (config.get("shift_factor", None) or 0.0)) * factor
        else:
            mean, std = (torch.as_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
            expected = (latents - mean) * factor / std
    torch.testing.assert_close(vae.scaling.scale(latents), expected)
    torch.testing.assert_close(vae.scaling.unscale(vae.scaling.scale(latents)), latents, rtol=1e-4, atol=1e-4)
