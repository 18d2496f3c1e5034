import numpy as np
import pytest
import torch
from relatent.engine.losses.metrics import PSNR_CEILING, from_uint8, psnr, quality, ssim, to_uint8
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio


@pytest.fixture
def pair():
    torch.manual_seed(0)
    target = torch.rand(3, 3, 40, 56) * 2 - 1
    image = target + torch.randn_like(target) * torch.tensor([0.02, 0.1, 0.4]).view(3, 1, 1, 1)
    return image, target


def test_psnr_is_per_image_and_agrees_with_torchmetrics(pair):
    image, target = pair
    expected = [
        peak_signal_noise_ratio((a.clamp(-1, 1) + 1) / 2, (b + 1) / 2, data_range=1.0).item()
        for a, b in zip(image, target, strict=True)
    ]
    np.testing.assert_allclose(psnr(image, target), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 56), (11, 11), (13, 64)])
def test_ssim_agrees_with_scikit_image(shape):
    torch.manual_seed(1)
    target = torch.rand(2, 3, *shape) * 2 - 1
    image = (target + 0.2 * torch.randn_like(target)).clamp(-1, 1)
    expected = [
        structural_similarity(
            (a.numpy() + 1) / 2,
            (b.numpy() + 1) / 2,
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(image, target, strict=True)
    ]
    np.testing.assert_allclose(ssim(image, target), expected, atol=2e-5)


def test_identical_pictures_have_finite_figures():
    image = torch.rand(1, 3, 8, 8) * 2 - 1  # smaller than the SSIM window
    found = quality(from_uint8(to_uint8(image)), from_uint8(to_uint8(image)))
    assert found["psnr"].item() == found["psnr_8bit"].item() == PSNR_CEILING
    assert found["ssim"].item() == pytest.approx(1.0, abs=1e-5)


def test_eight_bit_round_trip_is_exact():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(from_uint8(levels)), levels)


def test_eight_bit_figures_are_of_the_rounded_picture(pair):
    image, target = pair
    found = quality(image, target)
    rounded = torch.round((image.clamp(-1, 1) + 1) * 127.5) / 127.5 - 1
    assert torch.allclose(found["psnr_8bit"], psnr(rounded, target))
    assert not torch.equal(found["psnr_8bit"], found["psnr"])


def test_ssim_gradient():
    torch.manual_seed(2)
    target = torch.rand(1, 1, 12, 12, dtype=torch.float64) * 2 - 1
    image = (torch.rand_like(target) * 2 - 1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: ssim(x, target), image)
