"""The user's token, and the null token."""

import torch
from relatent.systems.spectrogram.diffusion.condition import UserCondition

USERS = torch.tensor([0, 1, 2, 0])


def condition() -> UserCondition:
    torch.manual_seed(0)
    return UserCondition(3, 16)


def test_each_sample_has_its_own_token():
    tokens = condition()(USERS, torch.zeros(4, dtype=torch.bool))
    assert tokens.shape == (4, 1, 16)
    assert torch.equal(tokens[0], tokens[3])
    assert all(not torch.allclose(tokens[0], tokens[other]) for other in (1, 2))


def test_the_null_token_is_no_user():
    tokens = condition()(USERS, torch.tensor([True, True, False, False]))
    assert torch.equal(tokens[0], tokens[1])  # whoever the user is
    assert all(
        not torch.allclose(tokens[0], condition()(torch.tensor([user]), torch.tensor([False]))) for user in range(3)
    )


def test_the_null_token_is_trained_where_it_is_used_and_user_0_is_not():
    model = condition()
    model(torch.tensor([0, 2]), torch.tensor([True, False])).square().sum().backward()
    assert model.null_token.grad.abs().sum() > 0
    assert model.embedding.weight.grad.abs().sum(1).gt(0).tolist() == [False, False, True]
