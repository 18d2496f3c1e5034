"""Pictures to refined files: never of higher cost, decodable, the same alone and in company."""

import dataclasses

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.codec.measures import measure
from relatent.systems.codec.refinement.config import RefinementConfig
from relatent.systems.codec.refinement.quantisers.registry import RELAXATIONS
from relatent.systems.codec.refinement.refine import refine
from synthetic_pictures import picture_of

CONFIG = RefinementConfig(steps=40, judge_interval=5, precision="fp32")
PICTURES = [picture_of(64, 128, 1), picture_of(50, 100, 2), picture_of(64, 128, 3), picture_of(1, 1, 4)]


@pytest.fixture(scope="module")
def refined(codec):
    return refine(codec, PICTURES, CONFIG)


def test_refined_files_cost_less_and_decode(codec, refined):
    for image, one in zip(PICTURES, refined, strict=True):
        assert torch.equal(codec.decompress(one.encoded.data), one.encoded.reconstruction)
        assert one.encoded.reconstruction.shape == image.shape
        assert one.before == measure(image, codec.encode(image), codec.lmbda)
        assert one.after == measure(image, one.encoded, codec.lmbda)
        assert one.seconds > 0
    assert [one.kept for one in refined[:3]] == ["refined"] * 3
    assert all(one.after.rd_cost < one.before.rd_cost for one in refined[:3])
    assert refined[3].after.rd_cost <= refined[3].before.rd_cost


@pytest.mark.parametrize("quantiser", RELAXATIONS)
def test_costs_are_those_of_rounded_latents(codec, quantiser):
    (one,) = refine(codec, PICTURES[:1], dataclasses.replace(CONFIG, quantiser=quantiser))
    assert len(one.costs) == 8
    assert one.costs[0] == pytest.approx(one.before.rd_cost, rel=5e-3)
    assert one.after.rd_cost <= min(one.costs) + 5e-3 * one.before.rd_cost
    assert one.kept == "refined"


@pytest.mark.parametrize("rate", [1e3, 1e30])
def test_never_more_than_without(codec, rate):
    for one in refine(codec, PICTURES[:2], dataclasses.replace(CONFIG, learning_rate=rate)):
        assert one.kept == "initial"
        assert one.after == one.before


def test_the_real_file_decides(codec, monkeypatch):
    """Latents that the model takes for better, and whose file is worse, are not kept."""
    encode = codec.encode_latents
    calls = []

    def worse(y, z, height, width):
        calls.append(1)
        found = encode(y, z, height, width)
        return dataclasses.replace(found, data=found.data * 50) if len(calls) == 2 else found

    monkeypatch.setattr(codec, "encode_latents", worse)
    (one,) = refine(codec, PICTURES[:1], CONFIG)
    assert min(one.costs) < one.costs[0]
    assert one.kept == "initial"
    assert torch.equal(codec.decompress(one.encoded.data), one.encoded.reconstruction)


def test_the_seed_makes_the_file(codec, refined):
    (again,) = refine(codec, PICTURES[1:2], CONFIG)
    assert again.encoded.data == refined[1].encoded.data
    assert again.costs == refined[1].costs
    (other,) = refine(codec, PICTURES[1:2], dataclasses.replace(CONFIG, seed=1))
    assert other.costs[1:] != again.costs[1:]


def test_pictures_in_refilled_batches_are_as_alone(codec, refined):
    """Five pictures in two slots; of the same size, so that slots are refilled."""
    pictures = [picture_of(64, 128, seed) for seed in (1, 3, 5, 6, 3)]
    progress: list[float] = []
    batch = refine(codec, pictures, dataclasses.replace(CONFIG, batch_size=2), progress.append)
    alone = [refined[0], refined[2], *refine(codec, pictures[2:4], CONFIG), refined[2]]
    for one, other in zip(batch, alone, strict=True):
        assert one.before == other.before
        gain, same = one.before.rd_cost - one.after.rd_cost, other.before.rd_cost - other.after.rd_cost
        assert gain == pytest.approx(same, rel=0.05)
    assert progress == sorted(progress)
    assert progress[-1] == 5


def test_a_picture_stops_by_its_rounded_latents_and_the_next_takes_its_slot(codec):
    """The pictures stop at different steps, so that those in the loop are at different ones."""
    config = dataclasses.replace(CONFIG, steps=60, batch_size=2, convergence_threshold=5e-3, convergence_window=10)
    pictures = [picture_of(64, 128, seed) for seed in (1, 2, 3, 4)]
    batch = refine(codec, pictures, config)
    assert len({len(one.costs) for one in batch}) > 1
    assert min(len(one.costs) for one in batch) < 12
    for one, picture in zip(batch, pictures, strict=True):
        (alone,) = refine(codec, [picture], config)
        assert one.costs == pytest.approx(alone.costs, rel=1e-3)
        assert one.after.rd_cost < one.before.rd_cost


def test_no_pictures_no_results(codec):
    assert refine(codec, []) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number of at least 1, found 0"),
        ({"steps": 2.5}, "steps: expected a whole number"),
        ({"quantiser": "round"}, "quantiser: expected one of ssl, sga, ste, found 'round'"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number above 0, found nan"),
        ({"hyper_rate": 0}, "hyper_rate: expected a number above 0"),
        ({"ceiling": -1}, "ceiling: expected a number above 0"),
        ({"tail": 1.5}, "tail: expected a fraction from 0 to 1"),
        ({"precision": "fp16"}, "precision: expected one of auto, fp32, bf16"),
        ({"schedule": "steps"}, "schedule: expected one of constant"),
        ({"batch_size": True}, "batch_size: expected a whole number"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        RefinementConfig(**options)
    assert "\n" not in str(caught.value)


def test_what_is_no_picture_is_refused(codec):
    with pytest.raises(UsageError, match="expected a picture of uint8"):
        refine(codec, [torch.zeros(3, 4, 4)])
