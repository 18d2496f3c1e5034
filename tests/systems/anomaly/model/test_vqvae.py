"""The 3-D VQ-VAE: size, shapes, what is before and what behind the quantiser, errors."""

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.model.vqvae import build_vqvae_3d

SMALL = {"hidden_channels": [4, 4, 8, 8], "embedding_dim": 8, "num_embeddings": 16}


def test_the_specified_model_has_its_number_of_parameters():
    for use_ema in (False, True):
        model = build_vqvae_3d({"use_ema": use_ema})
        assert sum(each.numel() for each in model.parameters()) == 11_602_784
    assert [name for name, each in model.named_parameters() if not each.requires_grad] == ["quantiser.codebook"]


def test_a_volume_of_128_has_8_latent_positions_an_axis():
    with torch.device("meta"):  # shapes alone: 128³ takes seconds
        model = build_vqvae_3d()
        z_e = model.encode(torch.empty(1, 1, 128, 128, 128))
        assert z_e.shape == (1, 256, 8, 8, 8)
        assert model.decode(z_e).shape == (1, 1, 128, 128, 128)


@pytest.mark.parametrize("shape", [(2, 1, 32, 32, 32), (1, 1, 16, 32, 48)])
def test_forward_and_backward(shape):
    model, x = build_vqvae_3d(SMALL), torch.rand(shape)
    out = model(x)
    assert out.reconstruction.shape == x.shape
    assert 0 <= float(out.reconstruction.detach().min()) <= float(out.reconstruction.detach().max()) <= 1
    assert out.indices.shape == (shape[0], *(side // 16 for side in shape[2:]))
    ((out.reconstruction - x).abs().mean() + out.vq_loss).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in model.parameters())


def test_encode_stops_before_the_quantiser():
    """The original's returned z_q, so nothing could start before the quantiser."""
    model, x = build_vqvae_3d(SMALL).eval(), torch.rand(1, 1, 32, 32, 32)
    z_e = model.encode(x)
    assert torch.equal(z_e, model.encoder(x))
    quantised = model.quantise(z_e)
    assert not torch.allclose(z_e, quantised.quantised)
    assert torch.equal(model.decode(quantised.quantised), model(x).reconstruction)


def test_reconstruction_error():
    model, x = build_vqvae_3d(SMALL), torch.rand(2, 1, 32, 32, 32)
    error = model.get_reconstruction_error(x)
    assert model.training
    assert not model.quantiser.initialised  # as a step of training would have done
    assert torch.equal(error, (x - model.eval()(x).reconstruction).abs())
    torch.testing.assert_close(model.get_reconstruction_error(x, "mean"), error.mean((1, 2, 3, 4)))
    torch.testing.assert_close(model.get_reconstruction_error(x, reduction="sum"), error.sum((1, 2, 3, 4)))
    with pytest.raises(UsageError, match="none, mean or sum"):
        model.get_reconstruction_error(x, "max")


def test_codebook_usage():
    assert build_vqvae_3d(SMALL).get_codebook_usage(torch.tensor([[0, 3], [3, 5]])) == 3 / 16


@pytest.mark.parametrize("shape", [(1, 1, 20, 32, 32), (1, 2, 32, 32, 32), (1, 32, 32, 32), (1, 1, 0, 16, 16)])
def test_shapes_that_do_not_fit(shape):
    with pytest.raises(UsageError, match="multiples of 16"):
        build_vqvae_3d(SMALL)(torch.rand(shape))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embeddings": 3}, r"unknown key model\.embeddings; known are .*num_embeddings"),
        ({"num_embeddings": 0}, "whole numbers"),
        ({"num_embeddings": "many"}, "whole numbers"),
        ({"hidden_channels": []}, "whole numbers"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": "a"}, "model: "),
        ({"ema_decay": 1}, "ema_decay"),
        ({"commitment_cost": -1}, "commitment_cost"),
    ],
)
def test_configurations_that_make_no_model(values, message):
    with pytest.raises(UsageError, match=message):
        build_vqvae_3d(values)


def test_the_gradient_in_bf16_is_computed_everywhere():
    """At latent sides of 2 torch leaves most of the last convolution's gradient in bf16 as it finds the memory."""
    torch.manual_seed(0)
    model = build_vqvae_3d({"hidden_channels": [4, 8, 32], "embedding_dim": 64, "dropout": 0.0})
    x, gradients = torch.rand(4, 1, 16, 16, 16), []
    for enabled in (False, *[True] * 8):
        junk = [torch.full((size,), float("nan")) for size in (64 * 32 * 27, 1000, 64 * 64, 70000)]
        del junk
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = model.encode(x).float().pow(3).sum()
        gradients.append(torch.autograd.grad(loss, model.encoder[-2].weight)[0])
    exact = gradients[0]
    for gradient in gradients[1:]:
        assert (gradient - exact).norm() < 0.1 * exact.norm()
