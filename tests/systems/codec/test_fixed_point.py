"""Fixed-point networks: near the float ones, and the same bits however they are run."""

import pytest
import torch
from relatent.systems.codec.bitstream import fixed_point
from relatent.systems.codec.bitstream.fixed_point import UNIT, FixedConvolution, FixedNetwork
from relatent.systems.codec.errors import CodecModelError
from relatent.systems.codec.model import layers


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return layers.synthesis((16, 16, 24), 24)


@pytest.fixture(scope="module")
def units():
    return torch.randint(-20000, 20000, (2, 24, 9, 7), generator=torch.Generator().manual_seed(1)).double()


def test_near_the_float_network(network, units):
    fixed = FixedNetwork("synthesis", network)(units)
    assert torch.equal(fixed, fixed.round())
    expected = network.double()(units * UNIT).detach()
    network.float()
    assert (fixed * UNIT - expected).abs().max() < 4e-3  # 16 roundings of half a unit of 2.4e-4, spread by the kernels


def test_same_bits_for_any_threads_batch_and_strips(network, units, monkeypatch):
    fixed = FixedNetwork("synthesis", network)
    whole = fixed(units)
    assert torch.equal(torch.cat([fixed(one[None]) for one in units]), whole)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        assert torch.equal(fixed(units), whole)
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(fixed_point, "TILE", 1)  # one row at a time
    assert torch.equal(fixed(units), whole)


def test_sums_are_exact_at_the_limit():
    """Against Python's integers, with activations at the clamp."""
    convolution = torch.nn.Conv2d(2, 1, 1)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([3.0 + 2**-16, -2.0 - 3 * 2**-16]).view(1, 2, 1, 1))
        convolution.bias.fill_(2.0**-16)
    x = torch.tensor([2.0**22 + 1, 2.0**21 - 1], dtype=torch.float64).view(1, 2, 1, 1)
    weights = [3 * 2**16 + 1, -2 * 2**16 - 3]
    total = weights[0] * (2**22 + 1) + weights[1] * (2**21 - 1) + 2**12
    assert int(FixedConvolution("c", convolution)(x)) == (total + 2**15) >> 16


@pytest.mark.parametrize("value", [3000.0, float("nan")])
def test_weights_beyond_exactness_are_refused(value):
    convolution = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.constant_(convolution.weight, value)
    with pytest.raises(CodecModelError, match=r"synthesis\.3 has weights that are too large or not finite"):
        FixedConvolution("synthesis.3", convolution)
