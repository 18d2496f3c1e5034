"""Each loss against a published implementation, its gradient, its weight map, and how expressions are read."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from relatent import LatentOptimizer, OptimizationConfig, optimize_directory
from relatent.engine.errors import UsageError, WeightsUnavailableError
from relatent.engine.losses import perceptual
from relatent.engine.losses.expression import Term
from relatent.engine.losses.metrics import psnr
from relatent.engine.losses.registry import HUBER_DELTA, LOSSES, build_objective, check_loss, fusable, parse_loss
from relatent.engine.losses.structural import SCALES

CPU = torch.device("cpu")
FIVE = partial(LOSSES["ms_ssim"], window=3)  # five scales of a small picture


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.rand(4, 3, 16, 12) * 2 - 1, torch.rand(4, 3, 16, 12) * 2 - 1


@pytest.fixture
def photographs_like():
    """(2, 3, 200, 184) smooth pictures and copies with noise of two strengths."""
    torch.manual_seed(2)
    target = F.interpolate(torch.rand(2, 3, 25, 23), size=(200, 184), mode="bicubic").clamp(0, 1) * 2 - 1
    noise = torch.randn_like(target) * torch.tensor([0.02, 0.3]).view(2, 1, 1, 1)
    return (target + noise).clamp(-1, 1), target


@pytest.fixture
def alexnet(tmp_path_factory, monkeypatch):
    """Torch hub's folder with AlexNet's weights, random ones, under their real name."""
    torchvision = pytest.importorskip("torchvision")
    pytest.importorskip("lpips")
    folder = tmp_path_factory.getbasetemp() / "hub"
    file = folder / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    if not file.exists():
        file.parent.mkdir(parents=True)
        torch.manual_seed(5)
        torch.save(torchvision.models.alexnet().state_dict(), file)
    monkeypatch.setenv("TORCH_HOME", str(folder))
    monkeypatch.setattr(perceptual, "_networks", {})
    return file


def test_means_over_pixels_are_torchs_and_scipys_own_per_image(pair):
    from scipy.special import pseudo_huber

    image, target = pair
    for i in range(4):
        a, b = image[i], target[i]
        assert LOSSES["mse"](image, target)[i].item() == pytest.approx(F.mse_loss(a, b).item(), rel=1e-6)
        assert LOSSES["l1"](image, target)[i].item() == pytest.approx(F.l1_loss(a, b).item(), rel=1e-6)
        for delta in (HUBER_DELTA, 0.5):
            expected = F.huber_loss(a, b, delta=delta).item()
            assert LOSSES["huber"](image, target, delta=delta)[i].item() == pytest.approx(expected, rel=1e-6)
        for eps in (1e-3, 0.3):
            expected = (pseudo_huber(eps, (a - b).double().numpy()) / eps).mean()
            assert LOSSES["charbonnier"](image, target, eps=eps)[i].item() == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(LOSSES["psnr"](image, target), -psnr(image, target), atol=1e-4)


def test_means_over_pixels_take_volumes():
    torch.manual_seed(0)
    image, target = torch.rand(2, 1, 4, 5, 6), torch.rand(2, 1, 4, 5, 6)
    weight = torch.ones(2, 1, 4, 5, 6)
    for name in ("mse", "l1", "huber", "charbonnier", "psnr", "fft"):
        assert LOSSES[name](image, target).shape == (2,)
        torch.testing.assert_close(LOSSES[name](image, target, weight), LOSSES[name](image, target))


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (7, 1.0), (5, 0.7)])
def test_ssim_and_ms_ssim_are_pytorch_msssims(photographs_like, window, sigma):
    published = pytest.importorskip("pytorch_msssim")
    settings = dict(data_range=1.0, size_average=False, win_size=window, win_sigma=sigma)
    image, target = photographs_like
    unit = [(x.double() + 1) / 2 for x in (image, target)]
    for name in ("ssim", "ms_ssim"):
        expected = 1.0 - getattr(published, name)(*unit, **settings)
        found = LOSSES[name](image.double(), target.double(), window=window, sigma=sigma)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)  # both windows are rounded to fp32


def test_ssim_is_scikit_images(photographs_like):
    from skimage.metrics import structural_similarity

    image, target = ((x.double().permute(0, 2, 3, 1).numpy() + 1) / 2 for x in photographs_like)
    found = LOSSES["ssim"](*photographs_like, window=7, sigma=0.8)
    for i in range(2):
        expected = structural_similarity(
            image[i], target[i], data_range=1.0, gaussian_weights=True, sigma=0.8, use_sample_covariance=False,
            channel_axis=2,
        )  # fmt: skip
        assert found[i].item() == pytest.approx(1.0 - expected, abs=1e-5)


def test_ms_ssim_is_torchmetrics_with_relu(photographs_like):
    """They pad the picture for its window and cut that off again, so borders differ a little."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as published

    image, target = (x.double() for x in photographs_like)
    unit = [(x + 1) / 2 for x in (image, target)]
    expected = published(*unit, data_range=1.0, normalize="relu", reduction="none", betas=SCALES)
    torch.testing.assert_close(1.0 - LOSSES["ms_ssim"](image, target), expected, rtol=0, atol=5e-3)


def test_ms_ssim_of_an_inverted_picture_is_0_with_a_finite_gradient():
    published = pytest.importorskip("pytorch_msssim")
    torch.manual_seed(0)
    target = torch.rand(1, 1, 48, 48, dtype=torch.float64) * 2 - 1
    image = (-target).requires_grad_(True)
    loss = FIVE(image, target)
    assert loss.item() == 1.0
    assert published.ms_ssim((1 - target) / 2, (1 + target) / 2, data_range=1.0, win_size=3).item() == 0.0
    (gradient,) = torch.autograd.grad(loss.sum(), image)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_improved_ssim_is_the_mix_it_says(photographs_like):
    image, target = photographs_like
    expected = 0.6 * LOSSES["ssim"](image, target, window=9, sigma=1.2) + 0.4 * LOSSES["l1"](image, target) / 2
    found = LOSSES["improved_ssim"](image, target, window=9, sigma=1.2, alpha=0.6)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(16, 12), (15, 13)])
def test_fft_is_numpys_spectrum(shape):
    rng = np.random.default_rng(0)
    image, target = rng.uniform(-1, 1, (2, 2, 3, *shape))
    spectra = [np.fft.fft2(x, norm="ortho") for x in (image, target)]
    expected = np.abs(spectra[0] - spectra[1]).mean((1, 2, 3))
    found = LOSSES["fft"](torch.from_numpy(image), torch.from_numpy(target))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*(pretrained|weight enum)")
def test_lpips_is_the_packages_own(alexnet):
    import lpips

    torch.manual_seed(1)
    image, target = torch.rand(3, 3, 40, 48) * 2 - 1, torch.rand(3, 3, 40, 48) * 2 - 1
    check_loss("lpips", (3, 40, 48), CPU)
    (network,) = perceptual._networks.values()
    published = lpips.LPIPS(net="alex", verbose=False)
    assert torch.equal(published.net.slice1[0].weight, network.net.slice1[0].weight), "another backbone was loaded"
    with torch.no_grad():
        torch.testing.assert_close(LOSSES["lpips"](image, target), published(image, target).flatten())
    check_loss("mse + 0.1*lpips(net=alex)", (3, 40, 48), CPU)
    assert list(perceptual._networks.values()) == [network], "built twice"
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in network.parameters())


def test_lpips_has_a_gradient_that_is_right_and_finite(alexnet):
    check_loss("lpips", (3, 31, 31), CPU)
    network = copy.deepcopy(next(iter(perceptual._networks.values()))).double()
    torch.manual_seed(1)
    image, target = torch.rand(2, 1, 3, 31, 31, dtype=torch.float64) * 2 - 1
    direction = torch.randn_like(image)

    def along(t: torch.Tensor) -> torch.Tensor:  # one number in place of 2883
        return perceptual.distance(network, image + t * direction, target)

    assert torch.autograd.gradcheck(along, torch.zeros((), dtype=torch.float64, requires_grad=True))
    for parameter in network.net.parameters():
        parameter.zero_()  # all features vanish: the root of their squares has no derivative there
    image.requires_grad_(True)
    (gradient,) = torch.autograd.grad(perceptual.distance(network, image, target).sum(), image)
    assert torch.isfinite(gradient).all()


def test_lpips_that_cannot_be_is_one_line(tmp_path, monkeypatch, alexnet):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsUnavailableError, match=r"alexnet-owt-7be5be79\.pth.*https://") as caught:
        check_loss("lpips", (3, 64, 64), CPU)
    assert "\n" not in str(caught.value)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / alexnet.name).write_bytes(b"damaged")
    with pytest.raises(WeightsUnavailableError, match=r"do not load.*fetch them again"):
        check_loss("lpips", (3, 64, 64), CPU)
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'relatent\[lpips\]'"):
        check_loss("lpips", (3, 64, 64), CPU)
    with pytest.raises(UsageError, match="needs sides of 31 pixels, found 16×64"):
        check_loss("lpips", (3, 16, 64), CPU)
    with pytest.raises(UsageError, match="expected one of alex, vgg"):
        check_loss("lpips(net=resnet)", (3, 64, 64), CPU)


def losses_of_small_pictures():
    """All but LPIPS, each of a picture 12 pixels wide, or 34 for five scales."""
    functions = {name: LOSSES[name] for name in LOSSES if name != "lpips"} | {"ms_ssim": FIVE}
    return [pytest.param(function, 34 if name == "ms_ssim" else 12, id=name) for name, function in functions.items()]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("loss", "side"), losses_of_small_pictures())
def test_gradients(loss, side, weighted):
    torch.manual_seed(1)
    target = torch.rand(2, 1, side, side, dtype=torch.float64) * 2 - 1
    image = (target + 0.3 * torch.randn_like(target)).requires_grad_(True)
    weight = torch.rand_like(target) if weighted else None
    assert loss(image, target, weight).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: loss(x, target, weight), image, fast_mode=side > 12)


@pytest.mark.parametrize(("loss", "side"), losses_of_small_pictures())
def test_weights(loss, side):
    """All ones change nothing; what has weight 0 has no influence; only ratios matter where the weights are 0 or 1."""
    torch.manual_seed(1)
    target = torch.rand(2, 3, side, side) * 2 - 1
    image = (target + 0.3 * torch.randn_like(target)).requires_grad_(True)
    torch.testing.assert_close(loss(image, target, torch.ones(2, 1, side, side)), loss(image, target))
    weight = torch.zeros(2, 1, side, side)
    weight[0, :, :, : side // 2], weight[1, :, -2:] = 2.0, side / 2  # of mean 1; the second only at the border
    value = loss(image, target, weight)
    other = torch.where(weight > 0, image, torch.rand_like(image))
    torch.testing.assert_close(loss(other, target, weight), value)
    (gradient,) = torch.autograd.grad(value.sum(), image)
    ignored = (weight == 0).expand_as(gradient)
    assert (gradient[ignored] == 0).all()
    assert (gradient[~ignored] != 0).float().mean() > 0.9


def test_a_weighted_mean_is_the_mean_of_what_counts(pair):
    image, target = pair
    weight = torch.zeros(4, 1, 16, 12)
    weight[:, :, 2:6, 3:9] = 16 * 12 / 24
    for name in ("mse", "l1", "huber", "charbonnier", "psnr"):
        expected = LOSSES[name](image[:, :, 2:6, 3:9], target[:, :, 2:6, 3:9])
        torch.testing.assert_close(LOSSES[name](image, target, weight), expected)


def test_weighted_sum(pair):
    image, target = pair
    expected = LOSSES["mse"](image, target) + 0.25 * LOSSES["ssim"](image, target, window=7, sigma=1.0)
    assert torch.allclose(build_objective("mse + 0.25*ssim(window=7, sigma=1.0)")(image, target), expected)
    assert parse_loss("2e-1 * huber+mse") == [Term(0.2, "huber", {}), Term(1.0, "mse", {})]
    assert parse_loss("1e+1*huber( delta = 1e-1 )+ lpips(net=vgg)") == [
        Term(10.0, "huber", {"delta": 0.1}),
        Term(1.0, "lpips", {"net": "vgg"}),
    ]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("ssim(size=7)", "ssim has no parameter 'size'; it has window=11, sigma=1.5"),
        ("mse(delta=1)", "mse has no parameter 'delta'; it has none"),
        ("ssim(window=7.5)", "expected a whole number above 0, found '7.5'"),
        ("huber(delta=-1)", "expected a number above 0"),
        ("charbonnier(eps=nan)", "expected a number above 0"),
        ("mse + ", "cannot read ''"),
        ("mse - l1", "cannot read 'mse - l1'"),
        ("ssim(window=7", "cannot read"),
        ("nothing", "of mse, l1, huber, charbonnier, psnr, ssim, ms_ssim, improved_ssim, lpips, fft"),
    ],
)
def test_what_is_no_sum_of_losses_is_refused_in_one_line(expression, words):
    with pytest.raises(UsageError) as caught:
        OptimizationConfig(loss_function=expression)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_kernel_computes():
    assert fusable("mse") == ("mse", HUBER_DELTA)
    assert fusable(" huber(delta=0.3)") == ("huber", 0.3)
    assert all(fusable(loss) is None for loss in ("2*mse", "mse + l1", "psnr", LOSSES["mse"]))


def test_too_small_for_five_scales_is_refused_before_any_work(small_vae, targets):
    with pytest.raises(UsageError, match=r"sides above 160 pixels, found 160×200; use ssim, or ms_ssim\(window=10\)"):
        check_loss("mse + ms_ssim", (3, 160, 200), CPU)
    check_loss("ms_ssim", (3, 161, 200), CPU)
    with pytest.raises(UsageError, match="ms_ssim"):
        LatentOptimizer(OptimizationConfig(loss_function="ms_ssim")).optimize_batch(
            small_vae, small_vae.encode(targets), targets
        )
    with pytest.raises(UsageError, match="3 spatial dimensions"):
        check_loss("ssim", (1, 8, 8, 8), CPU)


def brightness(decoded, target):
    return (decoded.mean((1, 2, 3)) - target.mean((1, 2, 3))).square()


def test_a_callers_own_function(small_vae, targets, photographs, tmp_path):
    config = OptimizationConfig(iterations=5, loss_function=brightness, precision="fp32", convergence_threshold=0.0)
    assert config.to_dict()["loss_function"] == f"{__name__}.brightness (callable)"
    with pytest.raises(UsageError, match="give the function itself"):
        OptimizationConfig.from_dict(config.to_dict())
    latents = small_vae.encode(targets)
    for result in LatentOptimizer(config).optimize_batch(small_vae, latents, targets):
        assert result.losses[-1] < result.losses[0]
        assert result.metrics["loss_reduction"] > 0
    run = optimize_directory(photographs, tmp_path / "out", small_vae, config=config, size=32, formats=["hdf5", "png"])
    assert run["config"]["loss_function"] == f"{__name__}.brightness (callable)"
    assert run["counts"]["done"] == 4
    weight = torch.ones(3, 1, 32, 32)
    weight[:, :, :16] = 0
    found = build_objective(brightness)(targets + 0.5, targets, weight)
    torch.testing.assert_close(found, torch.full((3,), 0.25**2))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda decoded, target: (decoded - target).square().mean(), r"one value per image.*found shape \(\)"),
        (lambda decoded, target: (decoded - target).abs(), r"found shape \(2, 3, 32, 32\)"),
        (lambda decoded, target: 1.0, "found float"),
        (lambda decoded, target: brightness(decoded.detach(), target), "no gradient"),
    ],
)
def test_a_function_that_does_not_fit_is_one_error(small_vae, targets, function, words):
    with pytest.raises(UsageError, match=words):
        LatentOptimizer(OptimizationConfig(loss_function=function)).optimize_batch(
            small_vae, small_vae.encode(targets), targets
        )
