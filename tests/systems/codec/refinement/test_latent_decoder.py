"""The codec's decoder as the loop takes it."""

import pytest
import torch
from relatent.engine.optimization.optimizer import finish, start_loop
from relatent.systems.codec.bitstream.image_codec import padded
from relatent.systems.codec.model.hierarchy import STEPS
from relatent.systems.codec.model.quantisers import hard_round
from relatent.systems.codec.refinement.config import RefinementConfig
from relatent.systems.codec.refinement.decoder import LatentDecoder
from relatent.systems.codec.refinement.quantisers.registry import RELAXATIONS
from relatent.systems.codec.refinement.refine import loop_config, real_area
from synthetic_pictures import picture_of

CONFIG = RefinementConfig(steps=20, precision="fp32", tail=0.0)


@pytest.fixture
def latents(codec):
    with torch.no_grad():
        y, z = codec.model.analyse(torch.cat([padded(picture_of(64, 128, seed)) for seed in (1, 2)]))
    return {"y": y, "z": z}


def test_rate_and_distortion_are_of_one_sample(codec, latents, monkeypatch):
    seen: list[torch.Tensor] = []
    annealing = RELAXATIONS["ssl"]

    def recorded(*arguments):
        seen.append(annealing.sample(*arguments))
        return seen[-1]

    monkeypatch.setitem(RELAXATIONS, "ssl", annealing._replace(sample=recorded))
    decoder = LatentDecoder(codec.model, 64, 128, CONFIG)
    step = torch.tensor([3, 8], dtype=torch.int32)
    found = decoder.loop_decoder("fp32").run(decoder.packing.pack(latents), step)
    assert len(seen) == 1 + len(STEPS), "each set of values is drawn once"
    assert max((x - x.round()).abs().max() for x in seen) > 0.1, "they are not rounded"
    replay = iter(seen)
    expected = codec.model.evaluate(latents["y"], latents["z"], lambda x: next(replay))
    torch.testing.assert_close(found.output, expected.reconstruction, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.extra, expected.bits / (64 * 128), rtol=1e-4, atol=0)
    again = decoder.loop_decoder("fp32").run(decoder.packing.pack(latents), step)
    assert torch.equal(again.output, found.output), "the noise follows from seed and step"
    alone = decoder.loop_decoder("fp32").run(decoder.packing.pack(latents)[1:], step[1:])
    torch.testing.assert_close(alone.output, found.output[1:], rtol=1e-4, atol=1e-4)


def test_rounded_latents_are_what_counts(codec, latents):
    decoder = LatentDecoder(codec.model, 64, 128, CONFIG)
    packed = decoder.packing.pack(latents)
    loop_decoder = decoder.loop_decoder("fp32")
    found = loop_decoder.evaluate(packed, torch.tensor([3, 8]))
    expected = codec.model.evaluate(latents["y"], latents["z"], hard_round)
    torch.testing.assert_close(found.output, expected.reconstruction.clamp(0, 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.extra, expected.bits / (64 * 128), rtol=1e-4, atol=0)
    assert torch.equal(found.extra, loop_decoder.evaluate(packed, torch.tensor([0, 0])).extra)


def test_the_tail_is_straight_through_for_the_pictures_that_reached_it(codec, latents):
    decoder = LatentDecoder(codec.model, 64, 128, RefinementConfig(steps=20, precision="fp32", tail=0.25))
    packed = decoder.packing.pack(latents).requires_grad_(True)
    found = decoder.loop_decoder("fp32").run(packed, torch.tensor([3, 15], dtype=torch.int32))
    hard = codec.model.evaluate(latents["y"], latents["z"], hard_round)
    difference = (found.extra - hard.bits / (64 * 128)).abs()
    assert difference[0] > 1e-3 > difference[1]
    (gradient,) = torch.autograd.grad(found.extra.sum(), packed)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("weighted", [True, False])
def test_padding_does_not_count(codec, weighted):
    """What the padded area holds changes nothing; without the weights it would."""
    image = picture_of(50, 100, 4)
    target = padded(image)
    other = target.clone()
    other[:, :, 50:] = 1 - other[:, :, 50:]
    other[:, :, :, 100:] = 0.5
    with torch.no_grad():
        y, z = codec.model.analyse(target)
    results = []
    for each in (target, other):
        decoder = LatentDecoder(codec.model, 64, 128, CONFIG)
        latents = decoder.packing.pack({"y": y, "z": z})
        loop = start_loop(decoder, loop_config(CONFIG, 0.013), latents, each, weighted=weighted)
        loop.load([0], latents, each, real_area(image, target) if weighted else None)
        loop.complete()
        results += finish(decoder, loop, [0], torch.device("cpu"))
    assert torch.equal(results[0].optimized_latents, results[1].optimized_latents) is weighted
    assert (results[0].losses == results[1].losses) is weighted
    hard = codec.model.evaluate(y, z, hard_round)
    error = (hard.reconstruction.clamp(0, 1) - target)[:, :, :50, :100].square().mean()
    cost = 0.013 * 255**2 * error + hard.bits / (50 * 100)
    if weighted:
        assert results[0].losses[0] * (64 * 128) / (50 * 100) == pytest.approx(cost.item(), rel=1e-4)


def test_y_and_z_move_at_their_own_pace(codec, latents):
    config = RefinementConfig(steps=1, hyper_rate=4.0, precision="fp32")
    decoder = LatentDecoder(codec.model, 64, 128, config)
    packed = decoder.packing.pack(latents)
    targets = torch.cat([padded(picture_of(64, 128, seed)) for seed in (1, 2)])
    loop = start_loop(decoder, loop_config(config, 0.013), packed, targets)
    loop.load([0, 1], packed, targets)
    loop.complete()
    moved = decoder.packing.unpack(loop.slots.to_latents(loop.slots.latents) - packed)
    paces = {name: float(part.abs().median()) for name, part in moved.items()}
    assert paces["z"] == pytest.approx(4 * paces["y"], rel=0.1)
