"""The U-Net."""

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.detector.network import UNet3D


def test_its_size_and_shapes():
    network = UNet3D()
    assert sum(one.numel() for one in network.parameters()) == 88_889
    for shape in ((4, 4, 4), (8, 12, 4)):
        assert network(torch.rand(2, 2, *shape)).shape == (2, 1, *shape)
    with pytest.raises(UsageError, match="multiples of 4"):
        network(torch.rand(1, 2, 8, 8, 6))
    assert UNet3D((4, 8))(torch.rand(1, 2, 6, 6, 6)).shape == (1, 1, 6, 6, 6)


def test_every_weight_has_a_gradient_and_no_volume_sees_another():
    torch.manual_seed(0)
    network, x = UNet3D((4, 8, 8)), torch.rand(2, 2, 8, 8, 8)
    network(x).square().sum().backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in network.parameters())
    assert torch.allclose(network(x)[:1], network(x[:1]), atol=1e-6)


def test_it_starts_with_hardly_anything_found():
    torch.manual_seed(0)
    assert UNet3D()(torch.rand(1, 2, 8, 8, 8)).sigmoid().mean() < 0.2
