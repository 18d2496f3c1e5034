"""The four losses: values by hand, what each is for, and gradients that stay finite."""

import math

import pytest
import torch
from relatent.systems.anomaly.detector.losses import (
    inside_loss,
    margin_loss,
    normalise,
    outside_loss,
    similarity_loss,
    total_loss,
    weak_losses,
)
from relatent.systems.anomaly.detector.settings import DetectorSettings

KINDS = ("boxes", "slices")


def grid(*values):
    """A volume (1, 1, 1, 1, W)."""
    return torch.tensor(values).view(1, 1, 1, 1, -1)


P = grid(0.5, 0.1, 0.8, 0.2)
LOGITS = P.logit()
INSIDE = grid(False, False, True, True)
NORMAL = torch.zeros_like(INSIDE)


def test_outside_is_the_mean_of_the_binary_cross_entropy_with_0():
    assert outside_loss(LOGITS, INSIDE).tolist() == pytest.approx([-(math.log(0.5) + math.log(0.9)) / 2])
    assert outside_loss(LOGITS, NORMAL).tolist() == pytest.approx(
        [-(math.log(0.5) + math.log(0.9) + math.log(0.2) + math.log(0.8)) / 4]
    )
    assert outside_loss(LOGITS, ~NORMAL).tolist() == [0]


def test_inside_takes_the_mean_of_a_box_and_the_maximum_of_slices():
    assert inside_loss(LOGITS, INSIDE, "boxes").tolist() == pytest.approx([-math.log((0.8 + 0.2) / 2)])
    assert inside_loss(LOGITS, INSIDE, "slices").tolist() == pytest.approx([-math.log(0.8)])


def test_margin_compares_means_for_boxes_and_maxima_for_slices():
    assert margin_loss(LOGITS, INSIDE, "boxes", 0.5).tolist() == pytest.approx([0.3 - 0.5 + 0.5])
    assert margin_loss(LOGITS, INSIDE, "slices", 0.5).tolist() == pytest.approx([0.5 - 0.8 + 0.5])
    assert margin_loss(LOGITS, INSIDE, "slices", 0.2).tolist() == [0]  # inside stands out enough


def test_similarity_is_the_distance_to_the_map_over_its_maximum():
    error = grid(0.0, 0.1, 0.2, 0.05)
    assert normalise(error).flatten().tolist() == pytest.approx([0, 0.5, 1, 0.25])
    expected = (0.5 + 0.4 + 0.2 + 0.05) / 4
    assert similarity_loss(LOGITS, error, INSIDE).tolist() == pytest.approx([expected])
    assert normalise(torch.zeros_like(error)).tolist() == torch.zeros_like(error).tolist()
    two = torch.cat([error, 10 * error])
    assert torch.allclose(*normalise(two).chunk(2))  # each volume by its own maximum


@pytest.mark.parametrize("kind", KINDS)
def test_normal_volumes_have_the_first_loss_alone_beside_abnormal_ones(kind):
    settings = DetectorSettings(labels=kind)
    both = weak_losses(LOGITS.repeat(2, 1, 1, 1, 1), torch.cat([INSIDE, NORMAL]), torch.rand(2, 1, 1, 1, 4), settings)
    assert both.shape == (4, 2)
    assert (both[:, 0] > 0).all()
    assert both[0, 1] > 0
    assert both[1:, 1].tolist() == [0, 0, 0]


def test_the_sum_is_weighted_and_the_mean_over_volumes():
    settings = DetectorSettings(weights=(1.0, 2.0, 4.0, 8.0))
    losses = torch.tensor([[1.0, 3.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    assert float(total_loss(losses, settings)) == pytest.approx(2 + 2 * 0.5 + 4 * 0.5 + 8 * 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [-200.0, 0.0, 200.0])
def test_values_and_gradients_are_finite_where_the_network_is_sure(kind, level):
    logits = torch.full((3, 1, 2, 2, 2), level, requires_grad=True)
    inside = torch.zeros(3, 1, 2, 2, 2, dtype=torch.bool)
    inside[0, 0, 0], inside[2] = True, True  # in part, not at all, the whole volume
    losses = weak_losses(logits, inside, torch.zeros(3, 1, 2, 2, 2), DetectorSettings(labels=kind))
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(logits.grad).all()
    if level < 0:  # sure and wrong: there is still a way out
        assert (logits.grad[0, 0, 0] < 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_each_loss_drives_what_it_is_for(kind):
    torch.manual_seed(0)
    inside = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    inside[..., 1:3, 1:3, 1:3] = True
    error = torch.rand(1, 1, 4, 4, 4)
    after = {}
    for number in range(4):
        settings = DetectorSettings(labels=kind, weights=tuple(float(number == k) for k in range(4)))
        logits = torch.randn(1, 1, 4, 4, 4).requires_grad_()
        for _ in range(150):
            logits.grad = None
            total_loss(weak_losses(logits, inside, error, settings), settings).backward()
            logits.data -= 10.0 * logits.grad
        after[number] = logits.detach().sigmoid()
    assert after[0][~inside].max() < 0.2
    reduce = torch.mean if kind == "boxes" else torch.max
    assert reduce(after[1][inside]) > 0.9
    assert reduce(after[2][inside]) - reduce(after[2][~inside]) > 0.49
    assert (after[3] - normalise(error)).abs().mean() < 0.1
