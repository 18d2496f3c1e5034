"""The network: its sizes, its scales, its rates."""

from itertools import pairwise

import pytest
import torch
from relatent.systems.codec.model.configuration import CONFIGURATIONS
from relatent.systems.codec.model.hierarchy import STEPS, mask, scale_of
from relatent.systems.codec.model.network import HierarchicalCodec, parameter_counts, print_parameter_counts
from relatent.systems.codec.model.quantisers import additive_noise, hard_round, straight_through
from relatent.systems.codec.model.scale_table import LEVELS, levels_of, scales, sigma_of
from synthetic_pictures import picture_of


@pytest.fixture(scope="module")
def model(codec):
    return codec.model


@pytest.fixture(scope="module")
def images():
    return torch.stack([picture_of(64, 128, 1), picture_of(64, 128, 2)]).float() / 255


def test_parameter_counts():
    totals = {name: parameter_counts(name)["total"] for name in CONFIGURATIONS}
    assert totals == {"small": 1_243_484, "HPCM_Base": 35_678_540, "HPCM_Large": 60_348_300}
    assert CONFIGURATIONS["HPCM_Base"].latent_channels == CONFIGURATIONS["HPCM_Large"].latent_channels == 320
    small = HierarchicalCodec("small")
    assert sum(p.numel() for p in small.parameters()) == totals["small"]
    assert 3 * 2 * totals["small"] < 8e6  # three rates as float16


def test_parameter_counts_are_printed(capsys):
    print_parameter_counts()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "small: 1,243,484 parameters",
        "HPCM_Base: 35,678,540 parameters",
        "HPCM_Large: 60,348,300 parameters",
    ]
    assert "synthesis 525,036" in lines[0]


def test_the_hierarchy_is_nested_coarse_to_fine(model, images):
    s1, s2, s3 = model.collect_latents(images)
    assert [tuple(s.shape[2:]) for s in (s1, s2, s3)] == [(1, 2), (2, 4), (4, 8)]
    assert torch.equal(s1, s2[:, :, ::2, ::2])
    assert torch.equal(s2, s3[:, :, ::2, ::2])
    assert torch.equal(s3, model.analyse(images)[0])
    assert all(torch.equal(a, b) for a, b in zip(model(images).latents_hierarchy, (s1, s2, s3), strict=True))


def test_each_position_is_coded_once_from_what_is_known():
    coded = torch.zeros(1, 1, 8, 8)
    for step in STEPS:
        own = scale_of(coded, step.scale)
        known = mask(step.known, *own.shape[2:], like=coded)
        assert torch.equal(own > 0, known > 0)
        own += mask(step.coded, *own.shape[2:], like=coded)
    assert torch.equal(coded, torch.ones_like(coded))


def test_a_later_scale_changes_no_earlier_rate(model, images):
    y, z = model.analyse(images)
    before = model.evaluate(y, z, hard_round)
    changed = y.clone()
    changed[:, :, 1::2] += 5.0  # rows of s3 that are in neither s1 nor s2
    after = model.evaluate(changed, z, hard_round)
    assert torch.equal(before.z_bits, after.z_bits)
    assert torch.equal(before.y_bits[:, :2], after.y_bits[:, :2])
    assert not torch.equal(before.y_bits[:, 2], after.y_bits[:, 2])


def test_bits_are_per_image(model, images):
    both = model(images, hard_round)
    alone = [model(image[None], hard_round) for image in images]
    torch.testing.assert_close(both.y_bits, torch.cat([one.y_bits for one in alone]), rtol=1e-3, atol=0.1)
    torch.testing.assert_close(both.bits, both.z_bits + both.y_bits[:, 0] + both.y_bits[:, 1] + both.y_bits[:, 2])
    assert (both.bits > 0).all()


@pytest.mark.parametrize("quantise", [additive_noise, straight_through])
def test_every_parameter_gets_a_gradient(images, quantise):
    model = HierarchicalCodec("small")
    output = model(images, quantise)
    ((output.reconstruction - images).square().mean() * 1e3 + output.bits.mean()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if "analysis" in name)


def test_truncation_is_applied_to_y(images):
    model = HierarchicalCodec("small")
    y, z = model.analyse(images)
    model.truncation = lambda latent: latent * 0.0
    truncated, hyper = model.analyse(images)
    assert y.abs().max() > 0
    assert truncated.abs().max() == 0
    assert not torch.equal(hyper, z)


def test_the_table_of_scales_is_monotone():
    table = scales()
    assert len(table) == LEVELS == 64
    assert all(a < b for a, b in pairwise(table))
    assert table[0] == pytest.approx(0.11)
    assert table[-1] == pytest.approx(256.0)
    torch.testing.assert_close(sigma_of(torch.arange(64.0)), torch.tensor(table), rtol=1e-5, atol=0)


def test_a_level_out_of_bounds_can_return():
    raw = torch.tensor([-9.0, -9.0, 0.0, 9.0, 9.0], requires_grad=True)
    levels = levels_of(raw)
    assert levels.tolist() == [0.0, 0.0, 18.0, 63.0, 63.0]
    levels.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))  # a step goes against the gradient
    assert raw.grad.tolist() == [0.0, -8.0, 8.0, 8.0, 0.0]
