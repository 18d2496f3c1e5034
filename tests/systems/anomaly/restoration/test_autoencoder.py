"""The VQ-VAE behind the engine's seam: latents before the quantiser, frozen convolutions, its own measure."""

import pytest
import torch
from relatent.engine.autoencoders.frozen_conv import FrozenConv
from relatent.systems.anomaly.restoration.autoencoder import VolumeAutoencoder
from relatent.systems.anomaly.restoration.volumes import Volumes
from torch import nn


def test_latents_are_those_before_the_quantiser(model, volumes):
    autoencoder = VolumeAutoencoder(model)
    latents = autoencoder.encode(volumes)
    assert latents.shape == (6, 8, 4, 4, 4)
    torch.testing.assert_close(latents, model.encode(volumes))
    assert not torch.allclose(latents, model.quantise(latents).quantised)
    torch.testing.assert_close(autoencoder.decode(latents), model.decode(latents))


def test_the_loops_decoder_has_frozen_convolutions_and_no_batch_norm(model, volumes):
    autoencoder = VolumeAutoencoder(model)
    latents = autoencoder.encode(volumes[:2])
    decoder = autoencoder.loop_decoder("fp32")
    torch.testing.assert_close(decoder(latents), model.decode(latents), atol=1e-5, rtol=1e-4)
    gradients = []
    for function in (decoder, model.decode):
        z = latents.clone().requires_grad_(True)
        gradients.append(torch.autograd.grad(function(z).square().sum(), z)[0])
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)
    (copied,) = autoencoder.cache.values("copies").values()
    kinds = [type(module) for module in copied.modules()]
    assert kinds.count(FrozenConv) == 3
    assert not {nn.BatchNorm3d, nn.Conv3d, nn.ConvTranspose3d} & set(kinds)


def test_tissue_psnr_leaves_the_empty_voxels_out():
    target, output = torch.zeros(2, 1, 4, 4, 4), torch.zeros(2, 1, 4, 4, 4)
    target[0, 0, 0] = 0.5  # a quarter of the voxels, the other volume is empty
    output[0, 0, 0] = 0.4
    output[1] = 0.1
    measured = Volumes().measure(output, target)
    assert measured["tissue_psnr"].tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
    assert measured["psnr"].tolist() == pytest.approx([26.0206, 20.0], abs=1e-4)
