"""The experiment with a learned step: without a network the search equals the engine's; a network's correction is
learned, and its operations are counted.
"""

import json
from copy import copy

import pytest
import torch
from helpers import picture
from PIL import Image
from relatent import LatentOptimizer, load_autoencoder, preset
from relatent.benchmarks.research import learned_step
from relatent.benchmarks.research.evaluation_counter import EvaluationCounter, count_costs
from relatent.engine.losses.metrics import from_uint8


def photographs(size: int, *seeds: int) -> list[torch.Tensor]:
    """Return one (1, 3, size, size) image in [-1, 1] per seed."""
    arrays = (torch.from_numpy(picture(size, size, seed)) for seed in seeds)
    return [from_uint8(array).permute(2, 0, 1).unsqueeze(0) for array in arrays]


@pytest.fixture(scope="module")
def tiny():
    return load_autoencoder("tiny", device="cpu")


def test_without_a_network_the_search_is_the_engines(tiny):
    targets = torch.cat(photographs(64, 0, 1))
    start = tiny.encode(targets)
    config = preset(
        None,
        precision="fp32",
        warm_start=0,
        iterations=4,
        convergence_threshold=0.0,
        schedule="constant",
        gradient_error=0.0,
    )
    results = LatentOptimizer(config).optimize_batch(tiny, start, targets)
    search, errors = learned_step.Search(tiny, start, targets), []
    for _ in range(4):
        gradient, pictures, error = learned_step._evaluate(tiny, search, "fp32")
        search.advance(search.change(gradient, pictures))
        errors.append(error / targets[0].numel())
    expected = torch.tensor([result.losses for result in results]).T
    torch.testing.assert_close(torch.stack(errors), expected, rtol=1e-4, atol=0.0)


def test_a_network_begins_as_no_help_and_learns_some(tiny):
    target = photographs(64, 0)[0]
    search = learned_step.Search(tiny, tiny.encode(target), target)
    gradient, pictures, _ = learned_step._evaluate(tiny, search, "fp32")

    def change(network=None):
        # A copy keeps the moments, and `change` does not modify them in place.
        return copy(search).change(gradient, pictures, network)

    torch.testing.assert_close(change(learned_step.LearnedStep(4, 8, steps=2)), change())
    trained = learned_step.train(tiny, photographs(160, 2, 3), updates=6, steps=2)
    assert not any(parameter.requires_grad for parameter in trained.parameters())
    assert not torch.equal(change(trained), change())
    search.step = 2  # Beyond the steps that the network was built for.
    torch.testing.assert_close(change(trained), change())


def test_its_operations_are_counted(tiny):
    target = photographs(64, 0)[0]
    costs = count_costs(tiny, target)
    counter = EvaluationCounter(tiny, target, costs, 3.5)
    counter.finish(learned_step.adam_with_network(counter, learned_step.LearnedStep(4, 8, steps=2)))
    assert 3.0 < counter.work < 3.2  # Three iterations, and the network's operations in two of them.


def test_the_command(tmp_path, capsys):
    for split in ("train", "val"):
        (tmp_path / "bsds500" / split).mkdir(parents=True)
        for seed in range(2):
            Image.fromarray(picture(160, 160, seed)).save(tmp_path / "bsds500" / split / f"{seed}.png")
    out = tmp_path / "out"
    given = f"--bsds500 {tmp_path}/bsds500 --updates 20 --steps 2 --limit 1 --size 64 --device cpu --out {out}"
    assert learned_step.main(given.split()) == 0
    (file,) = out.iterdir()
    rows = json.loads(file.read_text())["results"]["tiny"]
    assert [row["search"] for row in rows] == ["Adam", "Adam after an encoder step", "a network's help in 2 steps"]
    assert all(row["gain_db"][-1] > 0.0 for row in rows)
    assert "| tiny | a network's help in 2 steps |" in capsys.readouterr().out
