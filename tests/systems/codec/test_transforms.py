"""The DCT against SciPy's in fp64, the Haar transform against its definition; inverses and gradients."""

import math

import pytest
import torch
from relatent.systems.codec.transforms.dct import dct_2d, dct_basis, idct_2d
from relatent.systems.codec.transforms.haar import DWTDownsampler, HaarBands, haar_2d, inverse_haar_2d
from scipy.fft import dctn

DCT_ERROR = 4e-6  # of unit Gaussians at 256 × 256 in fp32; 2.7e-6 was seen on an AMD EPYC, 3.7e-6 on an Intel Xeon


def exact_dct(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(dctn(x.double().numpy(), axes=(-2, -1), norm="ortho"))


def test_dct_in_fp32_is_exact_to_rounding_at_256():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 256, 256)
    exact = exact_dct(x)
    assert (dct_2d(x) - exact).abs().max() <= DCT_ERROR
    assert (idct_2d(dct_2d(x)) - x).abs().max() <= DCT_ERROR
    # the same basis with its phase in fp32, which is what the limit is there to exclude
    n = torch.arange(256, dtype=torch.float32)
    naive = torch.cos(math.pi * n.unsqueeze(1) * (2 * n + 1) / 512) * math.sqrt(2 / 256)
    naive[0] *= math.sqrt(0.5)
    assert (naive @ x @ naive.T - exact).abs().max() > 20 * DCT_ERROR


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3, 7, 12), (8, 8)])
def test_dct_of_any_shape(shape):
    torch.manual_seed(1)
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(dct_2d(x), exact_dct(x), atol=1e-13, rtol=0)
    torch.testing.assert_close(idct_2d(dct_2d(x)), x, atol=1e-13, rtol=0)


def test_dct_basis_is_orthonormal():
    for size in (1, 2, 41, 256):
        basis = dct_basis(size, torch.device("cpu"), torch.float64)
        torch.testing.assert_close(basis @ basis.T, torch.eye(size, dtype=torch.float64), atol=1e-14, rtol=0)


def test_dct_of_16_bits_is_rounded_once():
    torch.manual_seed(2)
    x = torch.randn(1, 1, 64, 64)
    assert torch.equal(dct_2d(x.bfloat16()), dct_2d(x.bfloat16().float()).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        inside = dct_2d(x)
    assert torch.equal(inside, dct_2d(x))


def test_a_basis_made_in_inference_mode_serves_training():
    dct_basis.cache_clear()
    x = torch.randn(1, 1, 9, 11)
    with torch.inference_mode():
        dct_2d(x)
    x.requires_grad_(True)
    dct_2d(x).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())  # orthonormal: the energy is the picture's


def test_haar_bands_of_one_block():
    """[[a, b], [c, d]] = [[1, 2], [4, 8]]: LL = ½Σ = 7.5 (a box average gives 3.75)."""
    block = torch.tensor([[1.0, 2.0], [4.0, 8.0]]).view(1, 1, 2, 2)
    assert [band.item() for band in haar_2d(block)] == [7.5, -4.5, -2.5, 1.5]
    assert DWTDownsampler()(block).item() == 7.5


@pytest.mark.parametrize("size", [(2, 2), (16, 8), (1, 1), (7, 10), (5, 3)])
def test_haar_is_inverted(size):
    torch.manual_seed(3)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    bands = haar_2d(x)
    assert all(band.shape == (2, 3, (size[0] + 1) // 2, (size[1] + 1) // 2) for band in bands)
    torch.testing.assert_close(inverse_haar_2d(bands, size), x, atol=1e-14, rtol=0)
    torch.testing.assert_close(DWTDownsampler()(x), bands.low)
    if size[0] % 2 == size[1] % 2 == 0:
        torch.testing.assert_close(inverse_haar_2d(bands), x, atol=1e-14, rtol=0)
        energy = sum(band.square().sum() for band in bands)
        torch.testing.assert_close(energy, x.square().sum())  # all four bands together keep it


def test_gradients():
    torch.manual_seed(4)
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    bands = HaarBands(*(torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(4)))
    assert torch.autograd.gradcheck(dct_2d, x)
    assert torch.autograd.gradcheck(idct_2d, x)
    assert torch.autograd.gradcheck(lambda x: tuple(haar_2d(x)), x)
    assert torch.autograd.gradcheck(DWTDownsampler(), x)
    assert torch.autograd.gradcheck(lambda *bands: inverse_haar_2d(HaarBands(*bands), (3, 6)), tuple(bands))
