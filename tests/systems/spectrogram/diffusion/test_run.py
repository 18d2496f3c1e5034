"""Whole trainings from spectrograms, and the joint phase."""

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.data.spectrogram_folder import read_spectrograms
from relatent.systems.spectrogram.data.split import split_by_recording
from relatent.systems.spectrogram.diffusion.generate import GenerationSettings, generate
from relatent.systems.spectrogram.diffusion.joint import JointSettings, train_jointly
from relatent.systems.spectrogram.diffusion.model_folder import load_model
from relatent.systems.spectrogram.diffusion.run import train_on_spectrograms
from relatent.systems.spectrogram.vae.model import load_vae
from tiny_diffusion import TINY

QUIET = {"progress": lambda line: None}


def test_a_training_from_spectrograms(model_dir, vae_dir):
    model = load_model(model_dir)
    record = model.record
    assert (record["simulated"], record["vae"], record["latent_shape"]) == (True, "vae", [2, 8, 8])
    assert record["latents"] == {"training": 16, "held_out": 8}
    assert (record["settings"]["num_users"], model.num_users) == (2, 2)
    copied, given = load_vae(model_dir)[0].state_dict(), load_vae(vae_dir)[0].state_dict()
    assert all(torch.equal(copied[name], given[name]) for name in given)
    assert load_model(model_dir / "best").vae_folder.resolve() == (model_dir / "vae").resolve()
    assert load_model(model_dir / "best").record["steps"] in (3, 6)


def test_resolution_and_users_have_an_effect(spectrograms, vae_dir, tmp_path):
    with pytest.raises(UsageError, match="is of 32 pixels, found 64"):
        train_on_spectrograms(spectrograms, vae_dir, tmp_path, resolution=64, **TINY, **QUIET)
    record = train_on_spectrograms(
        spectrograms, vae_dir, tmp_path, resolution=32, num_users=1, **{**TINY, "max_steps": 1}, **QUIET
    )
    assert record["settings"]["num_users"] == 1
    assert record["latents"] == {"training": 8, "held_out": 4}
    with pytest.raises(UsageError, match=r"other settings \(num_users"):
        train_on_spectrograms(spectrograms, vae_dir, tmp_path, **{**TINY, "max_steps": 1}, **QUIET)


@pytest.mark.slow
def test_the_joint_phase(spectrograms, model_dir, tmp_path):
    parts = split_by_recording(read_spectrograms(spectrograms))
    # linked, so that the model of other tests stays as it is
    folder = tmp_path / "model"
    folder.mkdir()
    for path in model_dir.iterdir():
        (folder / path.name).symlink_to(path)
    settings = JointSettings(max_steps=8, batch_size=4, learning_rate=1e-3, save_every=4, device="cpu")
    whole = train_jointly(folder, *parts, settings, **QUIET)["joint"]
    assert whole["after"]["psnr"] > whole["before"]["psnr"] + 1.0
    assert whole["before"]["validation_loss"] == pytest.approx(load_model(model_dir).record["validation_loss"], rel=0.2)
    joint, before = load_model(folder / "joint"), load_model(folder)
    assert joint.scaling == before.scaling
    for one, other in ((joint.network, before.network), (load_vae(folder / "joint")[0], load_vae(folder)[0])):
        assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    generate(folder / "joint", tmp_path / "out", 1, [1], GenerationSettings(num_inference_steps=1), device="cpu")
    # gone on with behind its end, it is the same; a longer one is another
    assert train_jointly(folder, *parts, settings, **QUIET)["joint"] == whole
    with pytest.raises(UsageError, match="remove it to start anew"):
        train_jointly(folder, *parts, JointSettings(max_steps=9, device="cpu"), **QUIET)
