"""Codes are drawn by their probabilities, with top-k, temperature and guidance."""

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.vq.model_folder import build_transformer
from relatent.systems.spectrogram.vq.sampler import draw, sample_codes
from relatent.systems.spectrogram.vq.settings import recipe_settings
from tiny_vq import TINY_TRANSFORMER, TINY_VQVAE

SETTINGS = recipe_settings("small", TINY_VQVAE, {**TINY_TRANSFORMER, "num_users": 3})
LOGITS = torch.tensor([0.5, 0.0, 0.3, 0.2]).log()  # the second is impossible


@pytest.fixture
def transformer():
    model = build_transformer(SETTINGS[1], SETTINGS[0]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


def drawn(numbers, top_k=None) -> list[int]:
    uniform = torch.as_tensor(numbers)
    return draw(LOGITS.expand(len(uniform), -1), uniform, top_k).tolist()


def test_codes_are_drawn_by_their_probabilities():
    even = (torch.arange(1000) + 0.5) / 1000
    counts = torch.bincount(torch.tensor(drawn(even)), minlength=4)
    assert counts.tolist() == [500, 0, 300, 200]
    assert drawn([0.0, 0.499, 0.501, 0.799, 0.801, 1 - 2**-24]) == [0, 0, 2, 2, 3, 3]


def test_only_the_most_probable_ones_are_drawn():
    even = (torch.arange(1000) + 0.5) / 1000
    counts = torch.bincount(torch.tensor(drawn(even, 2)), minlength=4)
    assert counts.tolist() == [625, 0, 375, 0]
    assert {*drawn(even, 1)} == {0}
    assert drawn(even, 9) == drawn(even)


def test_a_sample_does_not_depend_on_its_batch(transformer):
    users, seeds = torch.tensor([0, 1, 2, 2]), [5, 6, 7, 8]
    whole = sample_codes(transformer, users, seeds, 1.5)
    assert whole.shape == (4, 16)
    alone = torch.cat([sample_codes(transformer, users[i : i + 1], seeds[i : i + 1], 1.5) for i in range(4)])
    assert torch.equal(whole, alone)
    assert not torch.equal(whole[2], whole[3])


def test_the_most_probable_code_follows_the_guided_logits(transformer):
    """top_k 1 is the argmax of null + scale · (user − null), the codes before it being given."""
    users, everyone = torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool)
    for scale in (0.0, 1.0, 2.5):
        codes = sample_codes(transformer, users, [0, 1], scale, top_k=1)
        with torch.no_grad():
            of_user, of_any = (transformer(codes[:, :-1], users, dropped) for dropped in (everyone, ~everyone))
        assert torch.equal(codes, (of_any + scale * (of_user - of_any)).argmax(-1))
    without = sample_codes(transformer, users, [3, 3], 0.0)
    assert torch.equal(without[0], without[1])  # no condition: the users do not differ


def test_a_low_temperature_draws_the_most_probable(transformer):
    users = torch.tensor([0, 1])
    cold = sample_codes(transformer, users, [0, 1], temperature=1e-4)
    assert torch.equal(cold, sample_codes(transformer, users, [0, 1], top_k=1))
    assert not torch.equal(cold, sample_codes(transformer, users, [0, 1]))


@pytest.mark.parametrize("given", [{"temperature": 0.0}, {"top_k": 0}, {"users": torch.tensor([3])}])
def test_what_cannot_be_sampled_is_refused(transformer, given):
    with pytest.raises(UsageError, match="expected"):
        sample_codes(transformer, **{"users": torch.tensor([0]), "seeds": [0], **given})
