import pytest
import relatent
import torch
from relatent import LatentOptimizer, OptimizationConfig

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
