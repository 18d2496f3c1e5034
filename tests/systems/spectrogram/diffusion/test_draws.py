"""What is random in a training."""

import torch
from relatent.systems.spectrogram.diffusion.draws import sample_seed, training_draws, validation_draws

SHAPE = (2, 4, 4)


def drawn(step, count=20, size=8, seed=0, dropout=0.5):
    return training_draws(count, SHAPE, size, seed, step, dropout)


def test_a_step_draws_the_same_whatever_came_before():
    first, torch_state = drawn(5), torch.get_rng_state()
    torch.rand(3)
    drawn(4)
    again = drawn(5)
    for name in ("indices", "noise", "timesteps", "dropped"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert not torch.equal(first.noise, drawn(6).noise)
    assert not torch.equal(first.noise, drawn(5, seed=1).noise)
    torch.set_rng_state(torch_state)


def test_an_epoch_has_each_latent_once():
    for epoch in (0, 1):
        indices = torch.cat([drawn(5 * epoch + step, count=40).indices for step in range(5)])
        assert sorted(indices.tolist()) == list(range(40))
    assert not torch.equal(drawn(0, count=40).indices, drawn(5, count=40).indices)


def test_fewer_latents_than_a_batch():
    indices = drawn(0, count=3, size=8).indices
    assert set(indices.tolist()) == {0, 1, 2}
    assert len(indices) == 8


def test_the_condition_is_dropped_by_sample():
    found = torch.stack([drawn(step, size=16, dropout=0.1).dropped for step in range(500)])
    assert 0.08 < found.float().mean() < 0.12
    mixed = found.any(1) & ~found.all(1)
    assert mixed.float().mean() > 0.5  # by batch, none would be; by sample, 1 − .9^16 − .1^16 = 81 %
    assert not drawn(0, dropout=0.0).dropped.any()
    assert drawn(0, dropout=1.0).dropped.all()


def test_parts_are_the_whole():
    whole, parts = drawn(0), drawn(0).parts(2)
    assert len(parts) == 4
    assert torch.equal(torch.cat([part.noise for part in parts]), whole.noise)
    assert torch.equal(torch.cat([part.dropped for part in parts]), whole.dropped)


def test_validation_draws_are_the_same_for_every_training_and_cover_all_timesteps():
    torch.manual_seed(1)
    one = validation_draws(10, SHAPE)
    torch.manual_seed(2)
    other = validation_draws(10, SHAPE)
    assert torch.equal(one.noise, other.noise)
    assert torch.equal(one.timesteps, other.timesteps)
    assert not one.dropped.any()
    assert len(one.indices) >= 128
    counts = one.indices.bincount()
    assert counts.min() == counts.max()
    assert torch.histc(one.timesteps.float(), 10, 0, 1000).min() >= len(one.timesteps) // 10 - 1
    assert len(validation_draws(1000, SHAPE, most=50).indices.unique()) == 50


def test_samples_have_seeds_of_their_own():
    seeds = {sample_seed(seed, user, index) for seed in range(3) for user in range(5) for index in range(7)}
    assert len(seeds) == 3 * 5 * 7
    assert sample_seed(0, 1, 2) == sample_seed(0, 1, 2)
