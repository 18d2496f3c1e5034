"""The benchmark's own Stable Diffusion decoder is diffusers' decoder."""

import pytest
import torch
from relatent.benchmarks.sd_decoder import SDDecoder, gradient_flops
from relatent.engine.autoencoders.families.pictures import KLDecoder


def test_equals_diffusers():
    from diffusers import AutoencoderKL

    channels, groups = (8, 8, 16, 16), 4
    ours = SDDecoder(channels=channels, groups=groups)
    theirs = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=groups,
    ).eval()
    wrapped = KLDecoder(theirs)
    wrapped.load_state_dict(ours.state_dict())
    z = torch.randn(2, 4, 6, 5)
    torch.testing.assert_close(ours(z), wrapped(z), rtol=1e-5, atol=1e-5)


def test_size_and_cost_are_stable_diffusions():
    with torch.device("meta"):
        decoder = SDDecoder()
    assert sum(parameter.numel() for parameter in decoder.parameters()) == pytest.approx(49.5e6, rel=0.001)
    forward, backward = gradient_flops(decoder, 1, 512)
    assert forward == pytest.approx(2.51e12, rel=0.01)
    assert backward == pytest.approx(2.55e12, rel=0.01)


def test_same_seed_same_weights():
    one, two = (SDDecoder(seed=4, channels=(8, 8), groups=2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
