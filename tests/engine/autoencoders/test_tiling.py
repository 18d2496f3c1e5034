"""Decoding in tiles, and what is done for a picture that does not fit in memory."""

import logging
from itertools import pairwise

import pytest
import torch
from helpers import Memory, picture
from relatent import LatentOptimizer, OptimizationConfig, load_autoencoder
from relatent.engine.autoencoders.tiling import _spans, decode_in_tiles
from relatent.engine.errors import UsageError
from relatent.engine.inputs.images import LoadedImage
from relatent.engine.inputs.prefetch import LoadedSource
from relatent.engine.inputs.sources import Source
from relatent.engine.loop_decoder import Decoded
from relatent.engine.losses.metrics import from_uint8, psnr
from relatent.engine.optimization.batch_size import lighter_config
from relatent.engine.optimization.batcher import Batcher
from torch import nn

CONFIG = OptimizationConfig(iterations=4, precision="fp32", precondition=False, warm_start=0)


def local_decoder(cell=4):
    """Nearest upsampling and a mixture of channels: nothing reaches beyond a cell, so that tiles have no seams."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 3, 1), nn.Upsample(scale_factor=cell, mode="nearest")).requires_grad_(False)


@pytest.mark.parametrize(("length", "side"), [(16, 16), (17, 16), (28, 16), (29, 16), (100, 16), (12, 16)])
def test_tiles_cover_a_side_and_share_a_quarter(length, side):
    spans = _spans(length, side)
    assert (spans[0][0], spans[-1][1]) == (0, length)
    assert all(end - start == min(side, length) for start, end in spans)
    assert all(end - start >= side // 4 for (_, end), (start, _) in pairwise(spans))


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (1, 4, 40, 23), (1, 4, 17, 64)])
def test_a_local_decoder_has_no_seams_nor_has_its_gradient(shape):
    decoder = local_decoder()
    latents = torch.randn(shape, requires_grad=True)
    step = torch.zeros(shape[0], dtype=torch.int32)
    in_tiles = decode_in_tiles(lambda z, _: Decoded(decoder(z)), 64, 4)(latents, step).output
    whole = decoder(latents)
    torch.testing.assert_close(in_tiles, whole, atol=1e-6, rtol=1e-5)
    weight = torch.randn_like(whole)
    expected, found = (torch.autograd.grad((output * weight).sum(), latents)[0] for output in (whole, in_tiles))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_groups_are_normalised_by_the_statistics_of_the_whole_picture():
    torch.manual_seed(0)
    decoder = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 3, 1), nn.Upsample(scale_factor=4)
    ).requires_grad_(False)  # fmt: skip
    vae = load_autoencoder(decoder, latent_channels=4, downscale_factor=4)
    latents = torch.randn(2, 4, 40, 23) + torch.linspace(-3, 3, 23)  # the statistics of no two tiles are alike
    for precision, within in (("fp32", 1e-5), ("bf16", 0.1)):
        with torch.no_grad():
            found = vae.loop_decoder(precision, tile=64)(latents.to(vae.loop_decoder(precision).dtype))
        torch.testing.assert_close(found, vae.decode(latents), atol=within, rtol=within)
    plain = decode_in_tiles(vae.loop_decoder("fp32").run, 64, 4)(latents, torch.zeros(2, dtype=torch.int32)).output
    assert (plain - vae.decode(latents)).abs().max() > 0.1  # each tile by its own
    assert torch.equal(vae.loop_decoder("fp32")(latents), vae.loop_decoder("fp32")(latents))
    torch.testing.assert_close(vae.loop_decoder("fp32")(latents), vae.decode(latents), atol=1e-5, rtol=1e-5)


def test_a_tile_holds_enough_cells_and_latents_are_of_pictures():
    with pytest.raises(UsageError, match="tile: expected at least 64 pixels, 16 latent cells, found 60"):
        decode_in_tiles(lambda z, _: Decoded(z), 60, 4)
    with pytest.raises(UsageError, match=r"only latents of pictures .* found shape \(1, 4, 2, 8, 8\)"):
        decode_in_tiles(lambda z, _: Decoded(z), 64, 4)(torch.zeros(1, 4, 2, 8, 8), torch.zeros(1))


def test_tiles_optimise_a_picture_and_measure_their_seams(small_vae):
    target = from_uint8(torch.from_numpy(picture(256, 160))).permute(2, 0, 1).unsqueeze(0)
    latents = small_vae.encode(target)
    (whole,) = LatentOptimizer(CONFIG).optimize_batch(small_vae, latents, target)
    config = OptimizationConfig(**{**CONFIG.to_dict(), "tile": 128})
    (result,) = LatentOptimizer(config).optimize_batch(small_vae, latents, target)
    assert whole.seam_psnr is None
    decoded = small_vae.decode(result.optimized_latents)
    assert psnr(decoded, target).item() == pytest.approx(result.metrics["final_psnr"], abs=1e-3)  # of the whole decoder
    assert result.metrics["psnr_improvement"] > 0.5 * whole.metrics["psnr_improvement"] > 0
    seams = psnr(small_vae.loop_decoder("fp32", tile=128)(result.optimized_latents), decoded.clamp(-1, 1))
    assert result.seam_psnr == pytest.approx(seams.item(), abs=0.1)


def test_memory_is_saved_by_recomputation_then_by_ever_smaller_tiles():
    found, config = [], OptimizationConfig(compile="on")
    while config is not None:
        config = lighter_config(config, (1024, 768), 8)
        found.append(config and (config.recompute, config.tile, config.compile))
    assert found == [(True, None, "auto"), (True, 512, "auto"), (True, 256, "auto"), (True, 128, "auto"), None]


class Narrow(nn.Module):
    """A decoder that keeps for the gradient at most `memory.most` latent cells, as if its device had no more memory."""

    def __init__(self, decoder, memory):
        super().__init__()
        self.decoder, self.memory = decoder, memory

    def forward(self, latents):
        if torch.is_grad_enabled() and latents.shape[-1] * latents.shape[-2] > self.memory.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.decoder(latents)


def test_a_picture_that_does_not_fit_is_optimised_in_tiles_and_said_to_be(small_vae, caplog):
    memory = Memory(20 * 20)
    vae = load_autoencoder(
        Narrow(small_vae.decoder, memory), encoder=small_vae.encoder, latent_channels=4, downscale_factor=8
    )
    batcher = Batcher(vae, CONFIG, (256, 128), keep_images=False)
    loaded = LoadedSource(Source("a.png", "a.png", "a", "all"), LoadedImage(picture(128, 256), (128, 256), ()))
    with caplog.at_level(logging.WARNING):
        ((record,),) = batcher.batches([loaded], 1)
    assert record.metrics["psnr_improvement"] > 0
    assert batcher.engine["tile"] == 128
    assert batcher.engine["recompute"] is True
    assert 10 < batcher.engine["seam_psnr"] <= 100
    assert [message.split("; ")[1] for message in caplog.messages] == [
        "going on with --recompute",
        "going on in tiles, as with --tile 128",
    ]
    memory.most = 100
    with pytest.raises(UsageError, match="one image of 256×128 pixels does not fit in memory"):
        list(Batcher(vae, CONFIG, (256, 128)).batches([loaded], 1))
