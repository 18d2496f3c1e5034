import pytest
import torch
import torch.nn.functional as F
from relatent.engine.metrics import psnr
from relatent.engine.objective import HUBER_DELTA, LOSSES, build_objective, parse_loss


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.rand(4, 3, 16, 12) * 2 - 1, torch.rand(4, 3, 16, 12) * 2 - 1


def test_losses_are_torchs_own_per_image(pair):
    image, target = pair
    for i in range(4):
        a, b = image[i], target[i]
        assert LOSSES["mse"](image, target)[i].item() == pytest.approx(F.mse_loss(a, b).item(), rel=1e-6)
        assert LOSSES["l1"](image, target)[i].item() == pytest.approx(F.l1_loss(a, b).item(), rel=1e-6)
        expected = F.huber_loss(a, b, delta=HUBER_DELTA).item()
        assert LOSSES["huber"](image, target)[i].item() == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(LOSSES["psnr"](image, target), -psnr(image, target), atol=1e-4)


def test_weighted_sum(pair):
    image, target = pair
    expected = LOSSES["mse"](image, target) + 0.25 * LOSSES["l1"](image, target)
    assert torch.allclose(build_objective("mse + 0.25*l1")(image, target), expected)
    assert parse_loss("2e-1 * huber+mse") == [(0.2, "huber"), (1.0, "mse")]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients(name):
    torch.manual_seed(1)
    target = torch.rand(2, 1, 12, 12, dtype=torch.float64) * 2 - 1
    image = (torch.rand_like(target) * 2 - 1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, target), image)
