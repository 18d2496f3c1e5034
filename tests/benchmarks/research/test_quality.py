"""The comparison of search methods: what the counter counts, what the methods spend, and both commands on a small
scale.
"""

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import picture
from PIL import Image
from relatent import Autoencoder, load_autoencoder
from relatent.benchmarks import peers
from relatent.benchmarks.research import quality, time_to_target, tuning
from relatent.benchmarks.research.evaluation_counter import EvaluationCounter, Run, count_costs
from relatent.benchmarks.research.learned import Learned
from relatent.benchmarks.research.methods import METHODS, STANDARD, Method
from relatent.engine.losses.metrics import from_uint8


def photograph(seed: int, size: int = 64) -> torch.Tensor:
    """Return an image (1, 3, size, size) in [-1, 1]."""
    return from_uint8(torch.from_numpy(picture(size, size, seed))).permute(2, 0, 1).unsqueeze(0)


class Counting(Autoencoder):
    """An autoencoder that counts its calls: decoder forward passes, those of them with an autograd graph, and encoder
    passes.
    """

    decoded = graphs = encoded = 0

    def decode(self, latents):
        image = super().decode(latents)
        self.decoded, self.graphs = self.decoded + 1, self.graphs + image.requires_grad
        return image

    def encode(self, images, precision="fp32"):
        self.encoded += 1
        return super().encode(images, precision)


@pytest.fixture(scope="module")
def tiny() -> Counting:
    loaded = load_autoencoder("tiny", device="cpu")
    return Counting(loaded.decoder, loaded.encoder, name="tiny", latent_channels=4, downscale_factor=8)


@pytest.fixture(scope="module")
def costs(tiny):
    return count_costs(tiny, photograph(0))


@pytest.fixture(scope="module")
def learned(tiny):
    return Learned(tiny, [photograph(1), photograph(2)])


def test_costs_are_shares_of_an_iteration(costs, tiny):
    # The gradient of a frozen convolution with respect to its input costs as much as its forward pass; the rest is
    # small.
    assert 0.45 < costs.decode < 0.55
    assert costs.encoder_step == pytest.approx((costs.decode_flops + costs.encode_flops) / costs.iteration_flops)
    double = count_costs(tiny, photograph(0, 128))
    # Convolutions cost four times as much, attention over all cells more.
    assert 4 <= double.iteration_flops / costs.iteration_flops < 4.2


def test_the_meter_counts_and_records(tiny, costs):
    target = photograph(0)
    counter = EvaluationCounter(tiny, target, costs, budget=10.0)
    gradient, image = counter.gradient(counter.start)
    assert counter.work == 1.0
    counter.encode(image)
    assert counter.work == pytest.approx(1.0 + costs.encode)
    moved = counter.start - 1e-3 * counter.sigma * gradient / gradient.abs().max()
    with torch.no_grad():
        counter.decode(moved)
    assert counter.work == pytest.approx(1.0 + costs.encoder_step)
    counter.spend(costs.iteration_flops / 4)
    spent = 1.25 + costs.encoder_step
    assert counter.work == pytest.approx(spent)
    assert counter.iterations() == int(10.0 - spent)
    assert counter.affords(10.0 - spent)
    assert not counter.affords(10.01 - spent)
    run = counter.finish(counter.start)
    errors = [(tiny.decode(each) - target).square().mean().item() for each in (counter.start, moved, counter.start)]
    assert [row[2] for row in run.rows] == pytest.approx(errors, rel=1e-5)
    assert [row[0] for row in run.rows] == pytest.approx([0.0, 1.0 + costs.encode, spent])
    assert run.rows[0][1] < run.rows[1][1] < run.seconds
    assert errors[1] < errors[0]  # The step decreases the error, so the final gain is that of `moved`.
    assert run.gain_db > 0
    with pytest.raises(ValueError, match="Learned"):
        counter.learned  # noqa: B018


def test_recording_takes_none_of_the_time(tiny, costs, monkeypatch):
    counter = EvaluationCounter(tiny, photograph(0), costs, budget=10.0)
    now = 100.0

    def clock() -> float:  # Each reading of the clock is one second later.
        nonlocal now
        now += 1.0
        return now

    monkeypatch.setattr(counter, "_now", clock)
    counter._begin = clock()
    with torch.no_grad():
        counter.decode(counter.start)  # The clock is read once for the row's time and twice around the recording.
    assert counter.seconds == 3.0


def test_gains_are_the_best_so_far():
    run = Run([(0.0, 0.0, 1.0), (1.0, 0.5, 0.1), (2.0, 1.0, 0.2), (3.5, 2.0, math.nan), (4.0, 3.0, 0.01)], 20.0)
    assert run.gains([0.5, 1, 2, 3.5, 4, 9]) == pytest.approx([0, 10, 10, 10, 20, 20])
    assert run.seconds_at([0.5, 1, 3, 9]) == [0.0, 0.5, 1.0, 3.0]
    slower = Run([(0.0, 0.0, 1.0), (3.0, 1.0, 0.1)], 10.0)
    assert quality.first_work([run, slower], 5.0) == 1.0  # (10 + 0) / 2
    assert quality.first_work([run, slower], 15.0) == 4.0
    assert quality.first_work([run, slower], 15.1) is None


def test_claims_are_by_mean_gain():
    runs = {
        "original, published": [Run([(0.0, 0.0, 1.0), (50.0, 1.0, 0.1)], 10.0)],
        "fast": [Run([(0.0, 0.0, 1.0), (2.0, 1.0, 0.2), (5.0, 1.0, 0.05)], 13.0)],
    }
    (claim,) = quality.claims(runs, ["fast"])
    assert claim == {
        "goal": "published, final", "goal_db": 10.0, "goal_work": 50, "preset": "fast", "work": 5.0, "times_less": 10.0
    }  # fmt: skip
    table = quality.claim_table({"tiny": {"claims": [claim, claim | {"preset": "balanced, fp32", "work": 4.0}]}})
    assert table.splitlines()[0].endswith("| work | `fast` | `balanced, fp32` |")
    assert table.splitlines()[2].endswith("| 5.0, 10.0 × less | 4.0, 10.0 × less |")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gains_and_counts_all_it_does(tiny, costs, learned, name):
    learned.curvature, learned.surrogate, learned.channel_rates  # noqa: B018  # computed beforehand, charged to no method
    method = METHODS[name]
    counter = EvaluationCounter(tiny, photograph(3), costs, 5.0, learned)
    spent_elsewhere = []
    counter.spend = lambda flops: (spent_elsewhere.append(flops), EvaluationCounter.spend(counter, flops))
    tiny.decoded = tiny.graphs = tiny.encoded = 0
    latents = method.search(counter, **method.settings)
    work = tiny.graphs + (tiny.decoded - tiny.graphs) * costs.decode + tiny.encoded * costs.encode
    assert counter.work == pytest.approx(work + sum(spent_elsewhere) / costs.iteration_flops)
    assert 2.0 < counter.work <= 5.0 + 1e-6
    assert sum(spent_elsewhere) < 0.05 * costs.iteration_flops * counter.work
    run = counter.finish(latents)
    assert run.work == counter.work
    gains = run.gains([row[0] for row in run.rows])
    assert gains[0] == 0.0
    assert gains == sorted(gains)
    assert gains[-1] > 0.1
    assert run.gain_db > 0.1
    assert not latents.requires_grad


def test_grids_are_around_the_settings():
    for name, method in METHODS.items():
        assert set(method.grid) <= set(method.settings), name
        assert len(tuning.variants(method)) == math.prod(len(values) for values in method.grid.values())
    assert set(STANDARD) <= set(METHODS)


def test_what_is_learned_is_of_the_decoder(tiny):
    # A decoder of known curvature: each channel is scaled, then repeated over 8×8 pixels.
    scales = torch.tensor([1.0, 2.0, 4.0])

    def decode(latents):
        return torch.nn.functional.interpolate(latents * scales.view(1, 3, 1, 1), scale_factor=8)

    def encode(images):
        return torch.nn.functional.avg_pool2d(images, 8) / scales.view(1, 3, 1, 1)

    simple = Autoencoder(decode, encode, name="simple", latent_channels=3, downscale_factor=8)
    learned = Learned(simple, [photograph(seed, 128) for seed in range(4)])
    curvature = learned.curvature.diagonal(dim1=-2, dim2=-1).real.mean((0, 1))
    torch.testing.assert_close(curvature, 64 * scales**2, rtol=0.1, atol=0)
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    # least squares: a mean of quotients is as far off as its smallest divisor makes it
    ratio = (learned.inverse(0.0, 1)(noise) * noise).sum((0, 2, 3)) / noise.square().sum((0, 2, 3)) * 64 * scales**2
    torch.testing.assert_close(ratio, torch.ones(3), rtol=0.3, atol=0)
    assert learned.whitener(1.0)(torch.randn(1, 3, 64, 64)).square().mean().item() == pytest.approx(1.0, abs=0.15)
    moved = noise / scales.view(1, 3, 1, 1)
    guess = torch.nn.functional.conv2d(moved, learned.surrogate, padding=1)
    torch.testing.assert_close(torch.nn.functional.pixel_shuffle(guess, 8), decode(moved), rtol=0.1, atol=0.15)


def test_tuning_ranks_and_hands_on(tiny, tmp_path):
    method = Method(METHODS["Adam (0.7, 0.9)"].search, 3.0, {"rate": 0.06, "betas": [0.7, 0.9]}, {"rate": (1e-4, 0.05)})
    ranked = tuning.tune({"tiny": tiny}, [photograph(0)], [photograph(1)], {"Adam (0.7, 0.9)": method})
    (rows,) = ranked.values()
    assert [row["settings"]["rate"] for row in rows] == [0.05, 1e-4]
    assert rows[0]["score_db"] > rows[1]["score_db"] > 0
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({"ranked": ranked}))
    names = ["Adam (0.7, 0.9)", "encoder iteration"]
    val = tuning.chosen_methods(names, None, path, "val")
    assert list(val) == ["Adam (0.7, 0.9)", "Adam (0.7, 0.9) #2", "encoder iteration"]
    assert val["Adam (0.7, 0.9) #2"].settings["rate"] == 1e-4
    test = tuning.chosen_methods(names, 2.0, path, "test")
    assert {name: each.budget for name, each in test.items()} == {"Adam (0.7, 0.9)": 2.0, "encoder iteration": 2.0}
    assert test["Adam (0.7, 0.9)"].settings["rate"] == 0.05
    results = {
        "tiny": {"rows": [{"method": name, "gain_db": [gain]} for name, gain in zip(val, (1.0, 2.0, 1.5), strict=True)]}
    }
    again = tuning.ranking(results, val)
    assert [row["settings"]["rate"] for row in again["Adam (0.7, 0.9)"]] == [1e-4, 0.05]


def test_a_preset_is_measured_as_it_is_used(tiny, costs):
    run = quality.run_preset(tiny, costs, quality.preset("fast", precision="fp32"), photograph(0))
    config = quality.preset("fast")
    warm = getattr(config, "warm_start", 0) * costs.encoder_step
    assert run.work == pytest.approx(config.iterations + warm)
    assert [row[0] for row in run.rows] == sorted(row[0] for row in run.rows)
    assert run.rows[0][:2] == (0.0, 0.0)
    if not warm:
        # The first loss of the loop is that of the start.
        assert run.rows[1][2] == pytest.approx(run.rows[0][2], rel=1e-4)
    assert run.gains([run.work])[0] == pytest.approx(run.gain_db, abs=0.3)  # They differ only by the clamping.


@pytest.fixture
def splits(tmp_path):
    """Return a folder with one 64² image in each of train/, val/ and test/."""
    for seed, split in enumerate(("train", "val", "test")):
        (tmp_path / "photographs" / split).mkdir(parents=True)
        Image.fromarray(picture(64, 64, seed)).save(tmp_path / "photographs" / split / "one.png")
    return tmp_path / "photographs"


def test_the_command_whole(splits, tmp_path, monkeypatch, capsys):
    pages = {}
    monkeypatch.setattr(quality, "replace_table", lambda marker, table, *page: pages.__setitem__(marker, table))
    monkeypatch.setattr(quality, "PRESETS", ("fast",))
    monkeypatch.setattr(quality, "IN_FP32", ("fast",))
    rival, out = "Adam (0.7, 0.9)", tmp_path / "results"
    given = ["--bsds500", str(splits), "--size", "64", "--limit", "1", "--budget", "2", "--device", "cpu"]
    monkeypatch.setitem(METHODS, rival, replace(METHODS[rival], grid={"rate": (0.03, 0.06)}))

    assert quality.main([*given, "--split", "train", "--tune", "--methods", rival, "--out", str(out)]) == 0
    (tuned,) = out.glob("quality_train-*.json")
    val = [*given, "--split", "val", "--methods", rival, "fast", "--settings", str(tuned)]
    assert quality.main([*val, "--out", str(out)]) == 0
    (chosen,) = out.glob("quality_val-*.json")
    methods = [row["method"] for row in json.loads(chosen.read_text())["results"]["tiny"]["rows"]]
    assert methods[:3] == [rival, f"{rival} #2", "fast"]
    assert pages == {}

    monkeypatch.setattr(quality, "FOLDER", out)
    plot = tmp_path / "quality.png"
    assert quality.main([*given, "--split", "test", "--settings", str(chosen), "--plot", str(plot)]) == 0
    (path,) = out.glob("quality-*.json")
    content = json.loads(path.read_text())
    assert (content["split"], content["images"], content["size"]) == ("test", 1, 64)
    result = content["results"]["tiny"]
    rows = {row["method"]: row for row in result["rows"]}
    assert set(rows) >= {*STANDARD, "fast"}
    for row in rows.values():
        assert row["gain_db"] == sorted(row["gain_db"])
        assert len(row["work"]) == len(row["gain_db"])
        assert len({len(each) for each in row["curve"].values()}) == 1
        assert row["curve"]["work"][-1] == row["work"][-1] == pytest.approx(row["final_work"], abs=0.006)
        assert row["seconds_per_image"] > 0
    assert rows["fast"]["final_db"] > 0
    assert set(pages) == {"quality plot", "presets", "claims"}
    assert pages["presets"] == quality.preset_table(content["results"])
    assert f"| tiny | `fast` | {rows['fast']['settings']['iterations']} |" in pages["presets"]
    assert quality.rival_table(content["results"]) in capsys.readouterr().out
    with Image.open(plot) as image:
        assert image.width > image.height > 300
        assert len(image.convert("RGB").getcolors(1 << 20)) > 30


def test_wrong_options_are_named(splits, capsys):
    for given, said in ((["--methods", "magic"], "found magic"), (["--tune"], "--tune is for --split train")):
        with pytest.raises(SystemExit) as refusal:
            quality.main(["--bsds500", str(splits), *given])
        assert refusal.value.code == 2
        assert said in capsys.readouterr().err


def test_the_original_stops_at_a_gain():
    torch.manual_seed(0)
    target, start = torch.randn(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    calls = []

    def decode(latents):
        calls.append(latents.detach().clone())
        return latents

    latents = peers.original_loop(decode, start, target, 0.05, 100, gain=3.0)
    losses = [(each - target).square().mean() for each in calls]
    assert losses[-1] <= losses[0] / 10**0.3 < losses[-2]
    torch.testing.assert_close(latents, calls[-1])


def test_time_to_target_whole(splits, tmp_path, capsys):
    given = ["--bsds500", str(splits), "--size", "64", "--limit", "1", "--target-gain", "0.5", "--device", "cpu"]
    assert time_to_target.main([*given, "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("time_to_target-*.json")
    content = json.loads(path.read_text())
    rows = content["results"]["tiny"]
    assert [row["method"] for row in rows] == ["original, published", "original, default", "relatent"]
    assert all(row["reached"] == 1 and row["gain_db"] > 0.4 and row["mean_seconds"] > 0 for row in rows)
    assert time_to_target.table(content["results"]) in capsys.readouterr().out
