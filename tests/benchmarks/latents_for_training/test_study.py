"""The study of latents for training: a tiny run of everything, equal draws, crops, and what several processes share."""

import json

import pytest
import torch
from helpers import picture
from PIL import Image
from relatent.benchmarks.latents_for_training.__main__ import main
from relatent.benchmarks.latents_for_training.arms import ARMS, Domain, read_latents, with_noise
from relatent.benchmarks.latents_for_training.cells import latent_sets
from relatent.benchmarks.latents_for_training.data import Source, read_pictures
from relatent.benchmarks.latents_for_training.measures import nearest
from relatent.benchmarks.latents_for_training.photographs import crop_places
from relatent.benchmarks.latents_for_training.summary import correlations
from relatent.benchmarks.latents_for_training.tasks import Task, claim, run_tasks
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.diffusion.settings import recipe_settings
from relatent.systems.spectrogram.diffusion.trainer import DiffusionTrainer

TINY = [
    "--quick",
    "--side",
    "32",
    "--seeds",
    "1",
    "--users",
    "2",
    "--recordings",
    "3",
    "--windows",
    "2",
    "--vae_steps",
    "1",
    "--classifier_epochs",
    "1",
    "--steps",
    "2",
    "--samples",
    "2",
    "--photo_samples",
    "3",
    "--inference_steps",
    "2",
    "--crops",
    "2",
    "--domains",
    "spectrograms",
    "tiny",
    "--arms",
    "initial",
    "fast",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory, one_thread):
    """(WORK, its command): a finished tiny study of two domains and two arms."""
    work, photographs = tmp_path_factory.mktemp("study"), tmp_path_factory.mktemp("photographs")
    for i in range(3):
        Image.fromarray(picture(48, 40, i)).save(photographs / f"{i}.png")
    command = [str(work), *TINY, "--photographs", str(photographs)]
    with pytest.MonkeyPatch.context() as patch:
        # the run that the encoder's latents are taken from: `balanced` takes longer
        patch.setattr("relatent.benchmarks.latents_for_training.arms.BASE", "fast")
        patch.setattr("relatent.benchmarks.latents_for_training.__main__.BASE", "fast")
        main(command)
        yield work, command


def test_the_whole(study, capsys):
    work, command = study
    (path,) = (work / "results").glob("*.json")
    found = json.loads(path.read_text())["domains"]
    assert set(found) == {"spectrograms", "tiny"}
    for name, domain in found.items():
        first, moved = domain["arms"]["initial"], domain["arms"]["fast"]
        assert first["measures"]["distance"] == 0.0 < moved["measures"]["distance"]
        assert first["measures"]["high_frequencies"] == 1.0
        assert moved["measures"]["psnr"] > first["measures"]["psnr"]
        cell = moved["cells"]["1"]
        assert cell["restored.latents"] == pytest.approx(moved["summary"]["restored.latents"]["mean"])
        assert ("samples.1.accuracy" in cell) == (name == "spectrograms")
        difference = moved["summary"]["validation_loss"]["difference"]["mean"]
        assert difference == pytest.approx(cell["validation_loss"] - first["cells"]["1"]["validation_loss"])
    table = (work / "results" / "latents_for_training.md").read_text()
    assert table.count("| `fast` |") == 2
    assert Image.open(work / "results" / "latents_for_training.png").format == "PNG"
    cells = {path: path.stat().st_mtime_ns for path in work.glob("*/cells/*.json")}
    assert len(cells) == 4
    capsys.readouterr()
    main(command)  # nothing is made again
    assert cells == {path: path.stat().st_mtime_ns for path in cells}
    assert "cell/" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="another settings"):
        main([*command, "--steps", "3"])


def test_arms_have_equal_draws(study, tmp_path):
    """Same first weights, order and noise; the shuffled control changes the users of the training alone."""
    work, _ = study
    domain = Domain("spectrograms", work / "spectrograms", Source(work / "spectrogram_pictures", True), "")
    pictures = read_pictures(domain.source, 32)
    sets = {name: latent_sets(domain, ARMS[name], pictures, 1) for name in ("initial", "fast", "initial_shuffled")}
    trainers = [
        DiffusionTrainer(recipe_settings("small", num_users=2, seed=1), *both, tmp_path / name)
        for name, both in sets.items()
        if name != "initial_shuffled"
    ]
    weights = [torch.cat([p.detach().flatten() for p in one.parameters]) for one in trainers]
    assert torch.equal(*weights)
    first, moved, shuffled = (sets[name][0] for name in sets)
    assert len(first) == len(moved)
    assert first.recordings == moved.recordings
    assert not torch.equal(first.latents, moved.latents)
    assert torch.equal(first.latents, shuffled.latents)
    assert torch.equal(sets["initial"][1].users, sets["initial_shuffled"][1].users)
    assert torch.equal(first.users.sort().values, shuffled.users.sort().values)
    recordings = [{name.rpartition("_")[0] for name in part.recordings} for part in sets["initial"]]
    assert not recordings[0] & recordings[1]


def test_latents_are_in_the_order_of_the_pictures(study):
    """Each decodes to its own picture better than to any other."""
    from relatent.benchmarks.latents_for_training.measures import decode
    from relatent.engine.autoencoders.loading import load_autoencoder

    work, _ = study
    domain = Domain("tiny", work / "tiny", Source(work / "photographs", False), "tiny")
    real = read_pictures(domain.source, 32).set.images.float() / 127.5 - 1.0
    decoded = decode(load_autoencoder("tiny"), read_latents(domain, ARMS["fast"]))
    errors = torch.cdist(decoded.flatten(1), real.flatten(1))
    assert errors.argmin(1).tolist() == list(range(len(real)))


def test_noise_moves_as_far():
    torch.manual_seed(0)
    initial = torch.randn(3, 4, 5, 6)
    moved = initial + torch.tensor([0.1, 1.0, 0.0]).view(3, 1, 1, 1) * torch.randn_like(initial)
    noisy = with_noise(initial, moved)
    distance = [(x - initial).square().flatten(1).mean(1) for x in (noisy, moved)]
    torch.testing.assert_close(*distance)
    assert not torch.equal(noisy[0], moved[0])


def test_nearest_is_another():
    points = torch.tensor([0.0, 1.0, 5.0]).view(3, 1, 1, 1)
    assert nearest(points).tolist() == [1, 0, 1]


def test_crops():
    places = crop_places((321, 481), 64, 8, (0, 1))
    assert places == crop_places((321, 481), 64, 8, (0, 1)) != crop_places((321, 481), 64, 8, (0, 2))
    for i, (top, left) in enumerate(places):
        assert 0 <= top <= 321 - 64
        assert 0 <= left <= 481 - 64
        shared = [max(0, 64 - abs(top - y)) * max(0, 64 - abs(left - x)) for y, x in places[:i]]
        assert max(shared, default=0) <= 0.5 * 64 * 64
    assert len(crop_places((64, 64), 64, 3, (0,))) == 3  # no room: they are the same
    with pytest.raises(UsageError, match="64×64 pixels or more, found 80×63"):
        crop_places((63, 80), 64, 1, (0,))


def test_a_claimed_task_is_left_to_its_process(tmp_path):
    done, order = [tmp_path / f"{i}.done" for i in range(3)], []

    def work(i):
        order.append(i)
        done[i].touch()

    tasks = [Task(str(i), done[i], (done[2],) if i == 0 else (), lambda i=i: work(i)) for i in range(3)]
    (tmp_path / "locks").mkdir()
    with claim(tmp_path / "locks" / "1.lock") as mine:
        assert mine
        with claim(tmp_path / "locks" / "1.lock") as other:
            assert not other
        done[1].touch()  # as another process would
    run_tasks(tasks, tmp_path / "locks", lambda line: None)
    assert order == [2, 0]


def test_correlations():
    def row(distance, value):
        names = ("psnr", "ssim", "high_frequencies", "noise_loss", "interpolation_frechet", "decoded_frechet")
        measures = dict.fromkeys(names, 1.0) | {"distance": distance}
        summary = {"samples.1.frechet_held_out": {"mean": value}, "restored.mean": {"mean": -value}}
        return {"measures": measures, "summary": summary}

    rows = {"a": row(0.0, 3.0), "b": row(1.0, 2.0), "c": row(2.0, 1.0), "a_shuffled": row(3.0, 9.0)}
    found = correlations(rows)
    assert set(found) == {"samples.1.frechet_held_out", "restored.mean"}  # users were not recognised
    assert found["samples.1.frechet_held_out"]["distance"] == pytest.approx(-1.0)
    assert found["restored.mean"]["distance"] == pytest.approx(1.0)
    assert found["restored.mean"]["psnr"] is None
