import contextlib
from functools import partial

import pytest
import relatent
import torch
from helpers import small_kl
from relatent import LatentOptimizer, OptimizationConfig
from torch import nn

ONCE = LatentOptimizer(OptimizationConfig(iterations=1))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda x: (x + 1) / 2, r"look like \[0, 1\].*2 \* x - 1"),
        (lambda x: (x + 1) * 127.5, r"look like \[0, 255\].*127.5"),
        (lambda x: ((x + 1) * 127.5).to(torch.uint8), "uint8"),
        (lambda x: x * 1.5, "outside"),
        (lambda x: x.index_fill(0, torch.tensor([1]), float("nan")), "NaN"),
        (lambda x: x[0], r"\(B, 3, H, W\)"),
    ],
)
def test_targets_in_a_wrong_range_are_refused_with_the_remedy(small_vae, targets, change, word):
    latents = small_vae.encode(targets)
    wrong = change(targets)
    with pytest.raises(ValueError, match=word):
        ONCE.optimize_batch(small_vae, latents[: len(wrong)], wrong)
    if wrong.ndim == 4:
        with pytest.raises(ValueError, match=word):
            relatent.encode(small_vae, wrong)


def test_bright_pictures_can_be_admitted(small_vae, targets):
    bright = targets.clamp_min(0.0)
    assert relatent.encode(small_vae, bright, OptimizationConfig(iterations=1), check_range=False).shape == (3, 4, 4, 4)


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ((3, 8, 4, 4), "4 channels, found 8"),
        ((3, 4, 5, 4), r"decode to \(40, 32\)"),
        ((2, 4, 4, 4), "batch sizes"),
        ((4, 4), "shape"),
    ],
)
def test_latents_that_do_not_fit(small_vae, targets, shape, word):
    with pytest.raises(ValueError, match=word):
        ONCE.optimize_batch(small_vae, torch.zeros(shape), targets)


def test_encode_refines_what_the_encoder_gives(small_vae, targets):
    from relatent.engine.losses.metrics import psnr

    latents = relatent.encode(small_vae, targets, OptimizationConfig(iterations=10))
    plain = small_vae.encode(targets)
    assert latents.shape == plain.shape
    assert (psnr(small_vae.decode(latents), targets) > psnr(small_vae.decode(plain), targets)).all()
    assert torch.equal(
        relatent.encode(small_vae, targets, "fast"), relatent.encode(small_vae, targets, relatent.preset("fast"))
    )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda x: x[:, :1], r"\(B, 3, H, W\), found \(3, 1"),
        (lambda x: x.permute(0, 2, 3, 1), r"permute\(0, 3, 1, 2\)"),
        (lambda x: x[:0], "one image or more"),
        (lambda x: x.numpy(), "tensor, found ndarray"),
        (lambda x: x[..., :31], "one latent cell is 8 pixels"),
        (lambda x: x[..., :4, :4], "one latent cell is 8 pixels"),
    ],
)
def test_what_is_no_batch_of_pictures(small_vae, targets, change, word):
    with pytest.raises(ValueError, match=word):
        relatent.encode(small_vae, change(targets))


def test_optimize_takes_one_image_alone(small_vae, targets):
    with pytest.raises(ValueError, match="found 3; use optimize_batch"):
        ONCE.optimize(small_vae, small_vae.encode(targets), targets)


def test_a_configuration_is_one_or_a_name():
    with pytest.raises(ValueError, match="found dict"):
        LatentOptimizer({"iterations": 3})


class Bare(nn.Module):
    """A decoder of 8 pixels a cell that changes its output by `last`."""

    def __init__(self, last, channels=3):
        super().__init__()
        self.conv, self.last = nn.ConvTranspose2d(4, channels, 8, 8), last

    def forward(self, z):
        return self.last(torch.tanh(self.conv(z)))


@pytest.mark.parametrize(
    ("decoder", "word"),
    [
        (Bare(lambda x: x, channels=1), r"gives \(3, 1, 32, 32\), the targets are \(3, 3, 32, 32\)"),
        (Bare(lambda x: x[:1]), r"gives \(1, 3, 32, 32\)"),
        (Bare(lambda x: x.mean((2, 3), keepdim=True)), r"gives \(3, 3, 1, 1\)"),
        (Bare(lambda x: (x,)), "gives tuple, not a tensor.*sample"),
    ],
)
def test_what_a_decoder_gives_is_not_broadcast(decoder, word, targets):
    with pytest.raises(ValueError, match=word):
        LatentOptimizer(OptimizationConfig(iterations=2)).optimize_batch(decoder, torch.randn(3, 4, 4, 4), targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_decoder_of_any_floating_type_is_taken_in_fp32(dtype, targets):
    decoder = Bare(lambda x: x).to(dtype)
    (result, *_) = ONCE.optimize_batch(decoder, torch.randn(3, 4, 4, 4), targets)
    assert result.optimized_latents.dtype == torch.float32
    assert decoder.conv.weight.dtype == dtype


@contextlib.contextmanager
def default_type(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "mode",
    [torch.inference_mode, torch.no_grad, partial(torch.autocast, "cpu", torch.bfloat16), partial(default_type, torch.float64)],
    ids=["inference", "no_grad", "autocast", "float64"],
)  # fmt: skip
def test_the_callers_modes_do_not_count(targets, mode):
    """Neither in a call nor in those after it, which have what the first one kept."""
    config = OptimizationConfig(iterations=3, precision="fp32")
    expected = relatent.encode(small_kl(), targets, config)
    vae = relatent.load_autoencoder(small_kl())
    with mode():
        default = torch.get_default_dtype()
        inside = relatent.encode(vae, targets, config)
        assert torch.get_default_dtype() == default
        results = LatentOptimizer(config).optimize_batch(vae, vae.encode(targets), targets)
    for found in (inside, relatent.encode(vae, targets, config), torch.cat([r.optimized_latents for r in results])):
        assert torch.equal(found, expected)
