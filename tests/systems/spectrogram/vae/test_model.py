"""The VAE's shapes, its folder, and folders that are not of it."""

import json
import shutil

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.vae.model import RECORD, build_vae, load_vae, remove_partial, save_vae
from relatent.systems.spectrogram.vae.settings import VAESettings

RECORD_OF = {"latent_mean": 0.1, "latent_std": 0.5, "scaling_factor": 2.0, "resolution": 32, "num_users": 2}


@pytest.fixture
def folder(small_settings, tmp_path):
    save_vae(build_vae(small_settings()), RECORD_OF, tmp_path / "out")
    return tmp_path / "out"


def test_the_published_size():
    with torch.device("meta"):
        vae = build_vae(VAESettings("data", "out"))
        posterior = vae.encode(torch.empty(1, 3, 128, 128)).latent_dist
        assert posterior.mean.shape == (1, 4, 32, 32)
        assert vae.decode(posterior.mean).sample.shape == (1, 3, 128, 128)
    assert vae.config.block_out_channels == (128, 256, 512)
    assert vae.config.scaling_factor != 0.18215


def test_the_folder_holds_the_same_model(small_settings, folder):
    torch.manual_seed(1)
    vae = build_vae(small_settings())
    save_vae(vae, RECORD_OF | {"scaling_factor": 3.0}, folder)  # in place of the first
    for where in (folder, folder / "vae", str(folder)):
        loaded, record = load_vae(where)
        assert record["scaling_factor"] == loaded.config.scaling_factor == 3.0
        assert not loaded.training
        for name, tensor in vae.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name
    assert sorted(path.name for path in folder.iterdir()) == ["vae", RECORD]


def test_a_failed_write_leaves_the_old_folder(small_settings, folder, monkeypatch):
    vae = build_vae(small_settings())
    monkeypatch.setattr(type(vae), "save_pretrained", lambda self, path: (path.mkdir(), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        save_vae(vae, RECORD_OF, folder)
    monkeypatch.undo()
    assert load_vae(folder)[1] == RECORD_OF
    assert sorted(path.name for path in folder.iterdir()) == ["vae", RECORD]


def test_what_a_killed_training_left_is_removed(folder):
    (folder / ".vae.partial-1").mkdir()
    (folder / ".vae.old-1").mkdir()
    (folder / ".vae.old-1" / "config.json").touch()
    (folder / ".vae_checkpoint.partial-1.pt").touch()
    (folder / ".vae_training.partial-1.json").touch()
    remove_partial(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["vae", RECORD]


def damage_weights(folder):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def other_kind(folder):
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "VQModel"}))


def other_shape(folder):
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"latent_channels": 8}))


def write_record(text):
    return lambda folder: (folder / RECORD).write_text(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage_weights, "safetensors"),
        (
            lambda folder: (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink(),
            "no file named diffusion_pytorch_model.safetensors",
        ),
        (other_kind, "expected an AutoencoderKL, found a VQModel"),
        (other_shape, "shape|size"),
        (lambda folder: shutil.rmtree(folder / "vae"), "is no diffusers autoencoder"),
        (lambda folder: (folder / RECORD).unlink(), "train-vae"),
        (write_record("{"), "cannot be read"),
        (write_record("[]"), "expected a number as latent_mean"),
        (write_record(json.dumps(RECORD_OF | {"scaling_factor": "2"})), "expected a number as scaling_factor"),
        (write_record(json.dumps(RECORD_OF | {"latent_std": 0})), "expected a number as latent_std, above 0"),
        (write_record(json.dumps(RECORD_OF | {"held_out": None})), "expected a number as held_out"),
    ],
)
def test_folders_that_are_refused_in_one_line(folder, change, message):
    change(folder)
    with pytest.raises(UsageError, match=message) as caught:
        load_vae(folder)
    assert "\n" not in str(caught.value)
