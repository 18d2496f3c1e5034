"""Generation: the folder it writes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.data.sample_folder import SampleFolder
from relatent.systems.spectrogram.data.spectrogram_folder import read_index, read_spectrograms
from relatent.systems.spectrogram.diffusion.draws import sample_seed
from relatent.systems.spectrogram.diffusion.generate import GenerationSettings, generate
from relatent.systems.spectrogram.diffusion.model_folder import load_model
from relatent.systems.spectrogram.diffusion.run import train_on_spectrograms
from relatent.systems.spectrogram.diffusion.sampler import sample_latents
from relatent.systems.spectrogram.vae.model import load_vae
from tiny_diffusion import TINY

QUICK = GenerationSettings(num_inference_steps=3)


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


@pytest.fixture(scope="module")
def generated(model_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    result = generate(model_dir, folder, 3, settings=QUICK, batch_size=4, device="cpu")
    return folder, result


def test_the_folder_is_read_as_one_of_spectrograms(generated):
    folder, result = generated
    assert names(folder) == [f"ID_{user}/sample_{index:04d}.png" for user in (1, 2) for index in range(3)]
    items = read_spectrograms(folder)
    assert [(item.user, item.recording) for item in items] == [(u, f"sample_{i:04d}") for u in (0, 1) for i in range(3)]
    index = read_index(folder)
    assert (index["simulated"], index["generated"]) == (True, True)
    assert (result["samples"], result["new"], result["guidance_scale"]) == (6, 6, 1.5)
    assert {path.name for path in folder.iterdir()} == {"ID_1", "ID_2", "generation.json", "spectrograms.json"}


def test_nothing_is_drawn_into_a_picture(generated, model_dir):
    """The original drew the user's number, and its classifier read it: each pixel is the decoder's own."""
    model = load_model(model_dir)
    vae = load_vae(model.vae_folder)[0]
    for user in (0, 1):
        for index in range(3):
            seed = sample_seed(0, user, index)
            latents = sample_latents(model.network, model.scaling, torch.tensor([user]), [seed], 1.5, 3)
            with torch.no_grad():
                decoded = vae.decode(latents).sample[0].clamp(-1, 1)
            expected = ((decoded + 1) * 127.5).round().permute(1, 2, 0).numpy()
            found = pixels(generated[0] / f"ID_{user + 1}" / f"sample_{index:04d}.png")
            assert np.abs(found - expected).max() <= 1  # beyond rounding, a sample does not depend on its batch


def test_it_goes_on(model_dir, generated, tmp_path, monkeypatch):
    save, left = SampleFolder.save, [2]

    def stop(*arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        save(*arguments)

    monkeypatch.setattr(SampleFolder, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        generate(model_dir, tmp_path, 2, settings=QUICK, device="cpu")
    assert len(names(tmp_path)) == 2
    monkeypatch.setattr(SampleFolder, "save", save)
    shown = []
    result = generate(model_dir, tmp_path, 2, settings=QUICK, device="cpu", on_step=lambda *done: shown.append(done))
    assert (result["samples"], result["new"]) == (4, 2)
    assert shown == [(4, 4)]
    assert generate(model_dir, tmp_path, 3, settings=QUICK, device="cpu")["new"] == 2
    assert names(tmp_path) == names(generated[0])
    assert len(read_spectrograms(tmp_path)) == 6
    for name in names(tmp_path):
        assert np.abs(pixels(tmp_path / name) - pixels(generated[0] / name)).max() <= 1


def test_users_are_named_as_their_folders(model_dir, generated, tmp_path):
    generate(model_dir, tmp_path, 1, [2], QUICK, device="cpu")
    assert names(tmp_path) == ["ID_2/sample_0000.png"]
    assert np.abs(pixels(tmp_path / "ID_2/sample_0000.png") - pixels(generated[0] / "ID_2/sample_0000.png")).max() <= 1
    for wrong in ([0], [3], []):
        with pytest.raises(UsageError, match="numbers from 1 to 2"):
            generate(model_dir, tmp_path, 1, wrong, QUICK, device="cpu")


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"seed": 1}, "seed"), ({"guidance_scale": 4.0}, "guidance_scale"), ({"ema": False}, "model, ema")],
)
def test_samples_of_other_settings_are_not_mixed(model_dir, generated, changes, named):
    with pytest.raises(UsageError, match=f"samples of another {named}; give another"):
        generate(
            model_dir, generated[0], 3, settings=GenerationSettings(num_inference_steps=3, **changes), device="cpu"
        )


def test_the_condition_scale_of_the_training_is_the_default(spectrograms, vae_dir, tmp_path):
    given = {**TINY, "max_steps": 1, "condition_scale": 2.5}
    train_on_spectrograms(spectrograms, vae_dir, tmp_path / "model", **given, progress=lambda line: None)
    result = generate(
        tmp_path / "model", tmp_path / "out", 1, [1], GenerationSettings(num_inference_steps=1), device="cpu"
    )
    assert result["guidance_scale"] == 2.5


def test_models_that_cannot_be_used(model_dir, tmp_path):
    with pytest.raises(UsageError, match=r"model.json cannot be read"):
        generate(tmp_path, tmp_path / "out", 1)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.json").write_text((model_dir / "model.json").read_text())
    with pytest.raises(UsageError, match="is damaged"):
        generate(broken, tmp_path / "out", 1)
    (broken / "model.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(UsageError, match="expected schema 1 with"):
        generate(broken, tmp_path / "out", 1)
