"""Autoencoders of video: pictures by 2-D networks that equal the 3-D ones, and clips."""

import pytest
import relatent
import torch
from helpers import PLAIN
from relatent import OptimizationConfig
from relatent.engine.errors import UsageError
from tiny_autoencoders import CASES, diffusers_decode, make
from torch import nn

FLATTENED = ("qwen", "qwen-layered", "wan21", "wan22", "qwen21")
CLIPS = ("qwen", "wan21", "wan22", "hunyuan-video", "mochi")


@pytest.mark.parametrize("name", FLATTENED)
def test_pictures_are_decoded_in_two_dimensions_and_the_same(name):
    case, model = CASES[name], make(name)
    vae = relatent.load_autoencoder(model)
    for part in (vae.decoder, vae.encoder):
        assert not any(isinstance(module, nn.Conv3d) for module in part.modules())
        assert all(type(module) is nn.Conv2d for module in part.modules() if isinstance(module, nn.Conv2d))
    assert any(isinstance(module, nn.Conv3d) for module in model.modules()) == (name != "qwen21")  # the caller's stays
    latents = torch.randn(2, case.channels, 3, 5, generator=torch.Generator().manual_seed(2))  # no square
    found, wanted = (latents.clone().requires_grad_() for _ in range(2))
    ours, theirs = vae.decode(found), diffusers_decode(model, case, wanted)
    assert ours.shape == (2, 3, 3 * case.factor, 5 * case.factor)
    assert (ours.clamp(-1, 1) - theirs).abs().max() <= 1e-5
    for output in (ours.clamp(-1, 1), theirs):
        output.square().mean(dim=(1, 2, 3)).sum().backward()
    assert wanted.grad.abs().max() > 1e-4
    assert (found.grad - wanted.grad).abs().max() <= 1e-5 * wanted.grad.abs().max() + 1e-8


@pytest.mark.parametrize("name", FLATTENED)
def test_nothing_is_kept_from_one_call_to_the_next(name):
    case, vae = CASES[name], relatent.load_autoencoder(make(name))
    first, other = torch.randn(2, 1, case.channels, 2, 2, generator=torch.Generator().manual_seed(3))
    run = vae.loop_decoder("fp32")
    before = run(first)
    run(other)
    assert torch.equal(run(first), before)


@pytest.mark.parametrize(
    "name", [*FLATTENED, "kl", "flux2", "flux2-small", "hunyuan-image", "asymmetric", "hunyuan-video"]
)
def test_every_convolution_of_the_decoder_freezes(name):
    from relatent.engine.autoencoders.frozen_conv import FrozenConv
    from relatent.engine.autoencoders.rewrite import prepare

    vae = relatent.load_autoencoder(make(name))
    convolutions = sum(isinstance(module, nn.Conv2d | nn.Conv3d) for module in vae.decoder.modules())
    prepared = prepare(vae.decoder, torch.float32)
    assert not any(isinstance(module, nn.Conv2d | nn.Conv3d) for module in prepared.modules())
    frozen = sum(isinstance(module, FrozenConv) for module in prepared.modules())
    folded = sum(type(module).__name__ == "FoldedInput" for module in prepared.modules())
    assert frozen + folded == convolutions


@pytest.mark.parametrize("name", CLIPS)
def test_clips_are_those_of_diffusers_and_are_optimised(name):
    case, model = CASES[name], make(name)
    vae = relatent.load_autoencoder(model, clips=True)
    frames = 7 if name == "mochi" else 5
    coarse = torch.rand(2, 3, frames, 4, 4, generator=torch.Generator().manual_seed(4)) * 2 - 1
    clips = torch.nn.functional.interpolate(coarse, size=(frames, 32, 32), mode="trilinear")
    with torch.no_grad():
        expected = model.encode(clips).latent_dist.mode()
        latents = vae.encode(clips)
        assert latents.shape == (2, case.channels, 2, 32 // case.factor, 32 // case.factor)
        torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            vae.decode(latents).clamp(-1, 1), model.decode(latents).sample.clamp(-1, 1), rtol=1e-5, atol=1e-5
        )
    config = OptimizationConfig(iterations=2, precision="fp32", **PLAIN)
    results = relatent.LatentOptimizer(config).optimize_batch(vae, latents, clips)
    for result in results:
        assert result.optimized_latents.shape[-4:] == latents.shape[1:]
        assert result.metrics["loss_reduction"] >= 0.0
    assert vae.scaling == relatent.load_autoencoder(model).scaling
    torch.testing.assert_close(vae.scaling.unscale(vae.scaling.scale(latents)), latents, rtol=1e-4, atol=1e-4)


def test_clips_are_refused_where_there_are_none(tmp_path):
    for name, words in (("kl", "decodes pictures, not clips"), ("cosmos", "pictures only"), ("qwen21", "has no clips")):
        with pytest.raises(UsageError, match=words):
            relatent.load_autoencoder(make(name), clips=True)
    with pytest.raises(UsageError, match="1 \\+ a multiple of 4 frames, found 4"):
        relatent.load_autoencoder(make("wan21"), clips=True).encode(torch.zeros(1, 3, 4, 32, 32))
    with pytest.raises(UsageError, match="goes with an autoencoder of video"):
        relatent.load_autoencoder(nn.Identity(), clips=True)


def test_video_autoencoders_without_one_picture_per_latent_are_refused():
    from diffusers import AutoencoderKLAllegro, AutoencoderKLLTXVideo
    from tiny_autoencoders import LTX

    with pytest.raises(UsageError, match="decodes with a timestep"):
        relatent.load_autoencoder(AutoencoderKLLTXVideo(**LTX, timestep_conditioning=True))
    with pytest.raises(UsageError, match="AutoencoderKLAllegro, which is not supported: diffusers encodes"):
        relatent.load_autoencoder(AutoencoderKLAllegro(block_out_channels=(32,) * 4, layers_per_block=1))
