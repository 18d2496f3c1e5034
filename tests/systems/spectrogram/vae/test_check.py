"""Each check holds on a sound folder, and fails on one that breaks just it."""

import json
import logging
import shutil

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.vae import check
from relatent.systems.spectrogram.vae.check import check_vae
from relatent.systems.spectrogram.vae.evaluation import latent_statistics, reconstruction_quality
from relatent.systems.spectrogram.vae.model import load_vae
from relatent.systems.spectrogram.vae.settings import VAESettings
from relatent.systems.spectrogram.vae.training import train_vae
from safetensors.torch import load_file, save_file
from vae_spectrograms import write_spectrograms


@pytest.fixture(scope="module")
def trained(spectrograms, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "out"
    train_vae(
        VAESettings(
            str(spectrograms), str(out), resolution=32, num_users=2, block_out_channels=(8, 8), batch_size=4, epochs=1,
            learning_rate=3e-3, lr_warmup_steps=1, device="cpu",
        ),
        lambda line: None,
    )  # fmt: skip
    return out


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "model")


@pytest.fixture
def diffusion(folder, tmp_path):
    """The configurations of a diffusion model of that VAE, without its weights."""
    record = json.loads((folder / "vae_training.json").read_text())
    out = tmp_path / "diffusion"
    (out / "unet").mkdir(parents=True)
    write(out / "unet" / "config.json", {"in_channels": 4, "out_channels": 4, "sample_size": 16})
    model = {"latent_shape": [4, 16, 16], "settings": {"num_users": 2}, "scaling": {"std": record["latent_std"]}}
    write(out / "model.json", model)
    shutil.copytree(folder / "vae", out / "vae")
    return out


def write(path, content):
    path.write_text(json.dumps(content))


def edit(path, **changes):
    write(path, json.loads(path.read_text()) | changes)


def found(*arguments, **options):
    return {one.name: one.ok for one in check_vae(*arguments, **options, device="cpu")}


def failing(*arguments, **options):
    (one,) = (one for one in check_vae(*arguments, **options, device="cpu") if one.ok is False)
    assert "\n" not in one.detail
    return one.name, one.detail


def test_a_sound_folder(folder, diffusion):
    expected = {"weights": True, "configuration": True, "scaling factor": True, "engine": True}
    assert found(folder) == found(folder / "vae") == expected
    fits = {f"diffusion: {name}": True for name in ("latents", "users", "σ of latents", "VAE")}
    assert found(folder, diffusion_dir=diffusion) == expected | fits


def test_figures_on_held_out_recordings(folder, spectrograms, monkeypatch):
    seen = []

    def quality(vae, dataset, batch_size):
        seen.extend(item.path.name for item in dataset.items)
        return reconstruction_quality(vae, dataset, batch_size)

    monkeypatch.setattr(check, "reconstruction_quality", quality)
    results = {one.name: one for one in check_vae(folder, spectrograms, device="cpu")}
    record = load_vae(folder)[1]
    assert len(seen) == record["pictures"]["held_out"]
    assert results["PSNR"].ok is (record["psnr"] > 25.0) is False
    assert f"{record['psnr']:.2f} dB on 8 pictures of simulated held-out recordings" in results["PSNR"].detail
    assert results["SSIM"].ok is (record["ssim"] > 0.8) is False
    assert f"{record['ssim']:.4f}" in results["SSIM"].detail
    assert results["data: users"].ok is True


@pytest.mark.parametrize(("psnr", "ssim", "verdicts"), [(25.1, 0.81, (True, True)), (25.0, 0.8, (False, False))])
def test_the_targets(folder, spectrograms, monkeypatch, psnr, ssim, verdicts):
    found_quality = check.reconstruction_quality(load_vae(folder)[0], dataset_of(spectrograms), 4)
    monkeypatch.setattr(
        check, "reconstruction_quality", lambda *_: type(found_quality)(psnr, ssim, found_quality.shown)
    )
    results = found(folder, spectrograms)
    assert (results["PSNR"], results["SSIM"]) == verdicts


def dataset_of(folder):
    return check.SpectrogramDataset(check.read_spectrograms(folder), 32)


def test_latents_of_another_spread(folder, spectrograms):
    vae, record = load_vae(folder)
    spread = latent_statistics(vae, dataset_of(spectrograms), 4)["latent_std"] * record["scaling_factor"]
    assert found(folder, spectrograms)["latents"] is (abs(spread - 1.0) <= 0.2) is True
    record |= {"latent_std": record["latent_std"] * 2, "scaling_factor": record["scaling_factor"] / 2}
    write(folder / "vae_training.json", record)
    edit(folder / "vae" / "config.json", scaling_factor=record["scaling_factor"])
    assert found(folder, spectrograms)["latents"] is False


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (lambda f: edit(f / "vae_training.json", resolution=64), "configuration", "resolution"),
        (lambda f: edit(f / "vae_training.json", latent_channels=8), "configuration", "latent_channels"),
        (lambda f: edit(f / "vae" / "config.json", scaling_factor=0.18215), "scaling factor", "Stable Diffusion's"),
        (lambda f: edit(f / "vae_training.json", scaling_factor=0.5), "scaling factor", "the same three times"),
        (lambda f: edit(f / "vae" / "config.json", latent_channels=8), "weights", "AutoencoderKL"),
        (lambda f: (f / "vae_training.json").unlink(), "weights", "train-vae"),
    ],
)
def test_a_vae_that_does_not_agree_with_itself(folder, change, name, message):
    change(folder)
    failed = {one.name: one.detail for one in check_vae(folder, device="cpu") if one.ok is False}
    assert message in failed[name]


def test_weights_that_are_not_finite(folder):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["decoder.conv_out.bias"][0] = torch.nan
    save_file(weights, path, {"format": "pt"})
    assert failing(folder) == ("weights", "AutoencoderKL: decoder.conv_out.bias is not finite; train again")


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (lambda d: edit(d / "unet" / "config.json", in_channels=8), "latents", "in_channels"),
        (lambda d: edit(d / "unet" / "config.json", sample_size=32), "latents", "sample_size"),
        (lambda d: edit(d / "model.json", latent_shape=[4, 8, 8]), "latents", "latent_shape"),
        (lambda d: edit(d / "model.json", settings={"num_users": 31}), "users", "num_users"),
        (lambda d: edit(d / "model.json", scaling={"std": 1 / 0.18215}), "σ of latents", "another factor"),
        (lambda d: edit(d / "model.json", scaling=None), "σ of latents", "expected a number"),
        (lambda d: (d / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b""), "VAE", "other weights"),
    ],
)
def test_a_diffusion_model_that_does_not_fit(folder, diffusion, change, name, message):
    change(diffusion)
    found_name, detail = failing(folder, diffusion_dir=diffusion)
    assert found_name == f"diffusion: {name}"
    assert message in detail


def test_a_classifier_that_does_not_fit(folder, diffusion):
    write(diffusion / "classifier.json", {"num_users": 3})
    name, detail = failing(folder, diffusion_dir=diffusion)
    assert name == "diffusion: classifier"
    assert "--classifier_steps" in detail


def test_what_is_not_there(folder, diffusion, tmp_path):
    (diffusion / "model.json").unlink()
    assert failing(folder, diffusion_dir=diffusion)[0] == "diffusion"
    shutil.rmtree(diffusion / "vae")
    for arguments in ((tmp_path / "none",), (folder, tmp_path / "none"), (folder, None, tmp_path / "none")):
        with pytest.raises(UsageError, match="is no folder"):
            list(check_vae(*arguments))


def test_other_data(folder, tmp_path, caplog):
    assert failing_names(folder, write_spectrograms(tmp_path / "three", users=3)) >= {"data: users"}
    assert "data" in failing_names(folder, write_spectrograms(tmp_path / "one", recordings=1))
    alone = write_spectrograms(tmp_path / "alone")
    (alone / "spectrograms.json").unlink()
    with caplog.at_level(logging.WARNING):
        details = [one.detail for one in check_vae(folder, alone, device="cpu")]
    assert any("pictures of held-out pictures" in detail for detail in details)


def failing_names(*arguments):
    return {name for name, ok in found(*arguments).items() if ok is False}
