"""The classifier that guides: what it learns, what its guidance does, and what fits what."""

import json

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.diffusion.latent_scaling import LatentScaling
from relatent.systems.spectrogram.diffusion.model_folder import read_model_record, save_model
from relatent.systems.spectrogram.diffusion.network import build_network
from relatent.systems.spectrogram.diffusion.sampler import sample_latents
from relatent.systems.spectrogram.diffusion.trainer import train_diffusion
from relatent.systems.spectrogram.guidance.classifier import WEIGHTS, load_classifier
from relatent.systems.spectrogram.guidance.training import NAME, ClassifierSettings, train_guidance
from relatent.systems.spectrogram.training.checkpoint import load_checkpoint
from tiny_diffusion import tiny_settings, toy_latents

SETTINGS = ClassifierSettings(max_steps=60, batch_size=32, device="cpu", save_every=20)


def quiet(line):
    pass


def untrained_model(folder):
    """The record and weights of a model of the toy latents."""
    latents, settings = toy_latents(), tiny_settings()
    record = {"settings": settings.__dict__, "latent_shape": [2, 4, 4], "vae": None, "simulated": True, "steps": 0}
    record |= {"scaling": LatentScaling.of(latents.latents).record(), "validation_loss": 1.0}
    save_model(folder, build_network(settings, (2, 4, 4)), record)
    return folder


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """A model that knows no user, because it was trained without its condition, and a classifier that does."""
    folder = tmp_path_factory.mktemp("guided")
    settings = tiny_settings(
        max_steps=60, batch_size=32, block_out_channels=(32,), learning_rate=1e-2, eval_every=60, save_every=60,
        condition_dropout=1.0,
    )  # fmt: skip
    train_diffusion(settings, toy_latents(), toy_latents(seed=1), folder, simulated=True, progress=quiet)
    return folder, train_guidance(folder, toy_latents(), toy_latents(seed=1), SETTINGS, quiet)


@pytest.mark.slow
def test_guided_samples_are_of_the_asked_user_more_often(guided):
    from relatent.systems.spectrogram.diffusion.model_folder import load_model

    folder, record = guided
    assert record["accuracy_little_noise"] > 0.95
    assert record["simulated"] is True
    model = load_model(folder)
    classifier = load_classifier(folder, model.record)
    users = torch.arange(48) % 2

    def of_the_asked_user(scale):
        samples = sample_latents(
            model.network, model.scaling, users, range(48), 0.0, 10, classifier.log_probability, scale
        )
        found = samples[:, 0].mean((1, 2)) > 0  # by the users' means, not by the classifier
        return float((found.long() == users).float().mean())

    plain, led = of_the_asked_user(0.0), of_the_asked_user(4.0)
    assert plain < 0.75  # nobody was asked for
    assert led > plain + 0.2
    assert led > 0.85


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    from relatent.systems.spectrogram.guidance import training

    short = ClassifierSettings(max_steps=8, batch_size=8, device="cpu", save_every=3)
    whole, parts = (untrained_model(tmp_path / name) for name in ("whole", "parts"))
    data = (toy_latents(), toy_latents(seed=1), short, quiet)
    record = train_guidance(whole, *data)

    def stop(path, content):
        save(path, content)
        raise KeyboardInterrupt

    save = training.save_checkpoint
    monkeypatch.setattr(training, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        train_guidance(parts, *data)
    assert load_checkpoint(parts / NAME)["step"] == 3
    with pytest.raises(UsageError, match="has no classifier; train it with"):
        load_classifier(parts, read_model_record(parts))
    monkeypatch.setattr(training, "save_checkpoint", save)
    assert train_guidance(parts, *data) == record
    assert (whole / WEIGHTS).read_bytes() == (parts / WEIGHTS).read_bytes()
    with pytest.raises(UsageError, match="of other latents"):
        train_guidance(parts, toy_latents(seed=3), *data[1:])


def test_a_classifier_of_another_model(tmp_path):
    folder = untrained_model(tmp_path / "model")
    train_guidance(
        folder, toy_latents(), toy_latents(seed=1), ClassifierSettings(max_steps=1, batch_size=8, device="cpu"), quiet
    )
    record = read_model_record(folder)
    load_classifier(folder, record)
    with pytest.raises(UsageError, match=r"^\S+classifier.json is of another scaling than the model"):
        load_classifier(folder, record | {"scaling": {"mean": [0.0, 0.0], "std": 1.0, "scaling_factor": 1.0}})
    with pytest.raises(UsageError, match=r"^\S+classifier.json is of other users"):
        load_classifier(folder, record | {"settings": {"num_users": 3}})
    (folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(UsageError, match="of other weights"):
        load_classifier(folder, record)
    (folder / "classifier.json").write_text(json.dumps({}))
    with pytest.raises(UsageError, match="is damaged"):
        load_classifier(folder, record)
