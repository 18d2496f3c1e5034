"""TAEHV and TAEW on pictures, against an account of the published network, frame by frame."""

import itertools

import pytest
import relatent
import torch
import torch.nn.functional as F
from helpers import PLAIN
from relatent import OptimizationConfig
from relatent.engine.autoencoders.scaling import FactorScaling
from relatent.engine.errors import UsageError, WeightsUnavailableError
from safetensors.torch import save_file

WIDTHS = (16, 12, 8, 8)
SHRINKS, GROWS = {2: 2, 7: 2, 12: 1}, {7: 1, 13: 2, 19: 2}  # layer -> frames joined, frames made


def published(channels=16, patch=1, seed=0):
    """Random weights under the published keys, with fewer channels."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def conv(key, outputs, inputs, side=3, bias=True):
        state[f"{key}.weight"] = (
            torch.randn(outputs, inputs, side, side, generator=generator) / (inputs * side**2) ** 0.5
        )
        if bias:
            state[f"{key}.bias"] = torch.randn(outputs, generator=generator) * 0.1

    def memory(key, width):
        for i, inputs in ((0, 2 * width), (2, width), (4, width)):
            conv(f"{key}.conv.{i}", width, inputs)

    conv("encoder.0", WIDTHS[3], 3 * patch**2)
    for stage, frames in SHRINKS.items():
        conv(f"encoder.{stage}.conv", WIDTHS[3], WIDTHS[3] * frames, 1, False)
        conv(f"encoder.{stage + 1}", WIDTHS[3], WIDTHS[3], bias=False)
        for i in range(3):
            memory(f"encoder.{stage + 2 + i}", WIDTHS[3])
    conv("encoder.17", channels, WIDTHS[3])
    conv("decoder.1", WIDTHS[0], channels)
    for (grow, frames), (width, following) in zip(GROWS.items(), itertools.pairwise(WIDTHS), strict=True):
        for i in range(3):
            memory(f"decoder.{grow - 4 + i}", width)
        conv(f"decoder.{grow}.conv", width * frames, width, 1, False)
        conv(f"decoder.{grow + 1}", following, width, bias=False)
    conv("decoder.22", 3 * patch**2, WIDTHS[3])
    return state


def convolve(state, key, x, stride=1):
    weight = state[f"{key}.weight"]
    return F.conv2d(x, weight, state.get(f"{key}.bias"), stride, weight.shape[-1] // 2)


def remember(state, key, frames):
    """Each frame with the one before it; zeros before the first."""
    after = []
    for i, frame in enumerate(frames):
        x = torch.cat([frame, frames[i - 1] if i else torch.zeros_like(frame)], 1)
        x = convolve(state, f"{key}.conv.2", F.relu(convolve(state, f"{key}.conv.0", x)))
        after.append(F.relu(convolve(state, f"{key}.conv.4", F.relu(x)) + frame))
    return after


def decode_last_frame(state, latents, patch):
    """(1, C, h, w) -> all frames that one latent decodes to; the last of them is the picture."""
    frames = [F.relu(convolve(state, "decoder.1", torch.tanh(latents / 3) * 3))]
    for grow, count in GROWS.items():
        for i in range(3):
            frames = remember(state, f"decoder.{grow - 4 + i}", frames)
        grown = [convolve(state, f"decoder.{grow}.conv", F.interpolate(frame, scale_factor=2)) for frame in frames]
        frames = [convolve(state, f"decoder.{grow + 1}", part) for frame in grown for part in frame.chunk(count, 1)]
    assert len(frames) == 4
    return F.pixel_shuffle(convolve(state, "decoder.22", F.relu(frames[-1])), patch)


def encode_still(state, images, patch):
    """Four equal frames -> one latent."""
    frames = [F.relu(convolve(state, "encoder.0", F.pixel_unshuffle(images, patch)))] * 4
    for stage, joined in SHRINKS.items():
        frames = [torch.cat(frames[i : i + joined], 1) for i in range(0, len(frames), joined)]
        frames = [convolve(state, f"encoder.{stage}.conv", frame) for frame in frames]
        frames = [convolve(state, f"encoder.{stage + 1}", frame, 2) for frame in frames]
        for i in range(3):
            frames = remember(state, f"encoder.{stage + 2 + i}", frames)
    assert len(frames) == 1
    return convolve(state, "encoder.17", frames[0])


@pytest.mark.parametrize(
    ("name", "channels", "patch", "suffix"), [("taew2_1", 16, 1, ".pth"), ("taew2_2", 48, 2, ".safetensors")]
)
def test_pictures_are_the_last_frame_of_a_latent(tmp_path, name, channels, patch, suffix):
    state = published(channels, patch)
    path = tmp_path / f"{name}{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for vae in (
        relatent.load_autoencoder(name, weights=path, device="cpu"),
        relatent.load_autoencoder(name, weights=tmp_path, device="cpu"),
        relatent.load_autoencoder(path, device="cpu"),
    ):
        assert (vae.latent_channels, vae.downscale_factor, vae.scaling) == (channels, 8 * patch, FactorScaling())
        latents = vae.encode(images)
        expected = torch.cat([encode_still(state, (image[None] + 1) / 2, patch) for image in images])
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)
        decoded = torch.cat([decode_last_frame(state, latent[None], patch) for latent in latents])
        torch.testing.assert_close(vae.decode(latents), decoded * 2 - 1, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(vae.loop_decoder("fp32")(latents), decoded * 2 - 1, rtol=1e-4, atol=1e-5)
        config = OptimizationConfig(iterations=2, precision="fp32", **PLAIN)
        for result in relatent.LatentOptimizer(config).optimize_batch(vae, latents, images):
            assert result.metrics["loss_reduction"] >= 0.0


def test_refusals(tmp_path):
    with pytest.raises(WeightsUnavailableError, match=r"give --weights taew2_1\.pth or \.safetensors"):
        relatent.load_autoencoder("taew2_1")
    state = published()
    state.pop("decoder.9.conv.2.bias")
    torch.save(state, tmp_path / "taew2_1.pth")
    with pytest.raises(UsageError, match=r"missing: \S*decoder\.9\.conv\.2\.bias"):
        relatent.load_autoencoder("taew2_1", weights=tmp_path)
    state.pop("decoder.1.weight")
    torch.save(state, tmp_path / "taew2_1.pth")
    with pytest.raises(UsageError, match=r"missing: decoder\.1\.weight"):
        relatent.load_autoencoder("taew2_1", weights=tmp_path)
    torch.save(published(48, 2), tmp_path / "taew2_1.pth")
    with pytest.raises(UsageError, match="16 latent channels at 1/8, the weights found have 48 at 1/16"):
        relatent.load_autoencoder("taew2_1", weights=tmp_path)
