"""Every way in, on small models saved in the real layouts."""

import json
import os
import subprocess
import sys

import pytest
import relatent
import torch
from helpers import small_kl
from relatent.engine.autoencoders.catalogue import CATALOGUE
from relatent.engine.autoencoders.taef2 import build_decoder, build_encoder
from relatent.engine.errors import UsageError, WeightsUnavailableError
from safetensors.torch import save_file


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(2, 3, 32, 32) * 2 - 1


def test_folder_gives_what_diffusers_gives(vae_folder, images):
    from diffusers import AutoencoderKL

    original = AutoencoderKL.from_pretrained(vae_folder)
    vae = relatent.load_autoencoder(vae_folder, device="cpu")
    with torch.no_grad():
        latents = original.encode(images).latent_dist.mode()
        torch.testing.assert_close(vae.encode(images), latents)
        torch.testing.assert_close(vae.decode(latents), original.decode(latents).sample)
    identity = vae.identity()
    assert (identity["latent_channels"], identity["downscale_factor"], identity["scaling_factor"]) == (4, 8, 0.3)
    assert identity["shift_factor"] == 0.0
    assert not any(p.requires_grad for p in vae.decoder.parameters())


def test_pipeline_folder(vae_folder, tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "vae").symlink_to(vae_folder)
    assert relatent.load_autoencoder(tmp_path / "pipeline", device="cpu").name == vae_folder.name


def test_objects_are_copied(images):
    original = small_kl().train()
    vae = relatent.load_autoencoder(original)
    assert original.training
    assert next(original.parameters()).requires_grad
    before = vae.decode(torch.zeros(1, 4, 4, 4))
    with torch.no_grad():
        next(original.decoder.parameters()).add_(1.0)
    torch.testing.assert_close(vae.decode(torch.zeros(1, 4, 4, 4)), before)


def test_without_quantisation_convolutions_as_sd3_and_flux(images):
    original = small_kl(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, latent_channels=16)
    vae = relatent.load_autoencoder(original)
    with torch.no_grad():
        torch.testing.assert_close(vae.encode(images), original.encode(images).latent_dist.mode())
    assert vae.identity()["shift_factor"] == 0.06
    assert vae.latent_channels == 16


def test_autoencoder_tiny(images):
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    original = AutoencoderTiny(
        encoder_block_out_channels=(4, 4, 4, 4), decoder_block_out_channels=(4, 4, 4, 4), num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )  # fmt: skip
    vae = relatent.load_autoencoder(original)
    with torch.no_grad():
        latents = original.encode(images).latents
        torch.testing.assert_close(vae.encode(images), latents)
        torch.testing.assert_close(vae.decode(latents), original.decode(latents).sample)
    assert vae.downscale_factor == 8


class Doubling(torch.nn.Module):
    """A decoder with images in [0, 1]: one latent cell is two pixels."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, latents):
        return (latents * self.gain).repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_any_module_or_callable_with_its_own_range():
    vae = relatent.load_autoencoder(
        Doubling(),
        encoder=lambda x: torch.nn.functional.avg_pool2d(x, 2),
        value_range=(0.0, 1.0),
        latent_channels=3,
        downscale_factor=2,
        name="doubling",
    )
    images = torch.full((1, 3, 8, 8), -0.5)
    latents = vae.encode(images)
    assert torch.allclose(latents, torch.tensor(0.25))
    assert torch.allclose(vae.decode(latents), images)
    assert vae.weights_sha256 is not None
    plain = relatent.load_autoencoder(lambda z: z, name="identity")
    assert plain.weights_sha256 is None
    assert plain.identity()["name"] == "identity"
    with pytest.raises(ValueError, match="no encoder"):
        plain.encode(images)


def test_weights_hash_follows_the_weights(vae_folder):
    first, again = (relatent.load_autoencoder(vae_folder, device="cpu") for _ in range(2))
    assert first.weights_sha256 == again.weights_sha256
    other = small_kl(seed=1)
    assert relatent.load_autoencoder(other).weights_sha256 != first.weights_sha256


def test_bundled_tiny(images):
    vae = relatent.load_autoencoder("tiny", device="cpu")
    assert (vae.latent_channels, vae.downscale_factor, vae.native_size) == (4, 8, 256)
    assert vae.encode(images).shape == (2, 4, 4, 4)
    assert 0.5 < (vae.encode(images) * vae.scaling_factor).std().item() < 3.0


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_taef2_from_fp16_state_dicts(tmp_path, images, suffix):
    for part, build in (("decoder", build_decoder), ("encoder", build_encoder)):
        torch.manual_seed(3)
        state = {key: value.half() for key, value in build().state_dict().items()}
        path = tmp_path / f"taef2_{part}{suffix}"
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    vae = relatent.load_autoencoder("taef2", weights=tmp_path, device="cpu")
    latents = vae.encode(images)
    assert latents.shape == (2, 32, 4, 4)
    assert vae.decode(latents).shape == images.shape
    with torch.no_grad():
        torch.manual_seed(3)
        reference = build_decoder().half().float()
        torch.testing.assert_close(vae.decode(latents), reference(latents) * 2 - 1)
    (tmp_path / f"taef2_decoder{suffix}").write_bytes(b"broken")
    with pytest.raises(UsageError, match="damaged or no state dict"):
        relatent.load_autoencoder("taef2", weights=tmp_path)


def test_taef2_with_its_real_weights(taef2_weights, bsds500):
    from relatent.engine.inputs.images import load_image
    from relatent.engine.losses.metrics import psnr

    vae = relatent.load_autoencoder("taef2", weights=taef2_weights, device="cpu")
    path = sorted((bsds500 / "val").glob("*.jpg"))[0]
    image = load_image(path, 256).tensor()
    latents = vae.encode(image)
    assert 0.5 < latents.std().item() < 1.3
    assert psnr(vae.decode(latents), image).item() > 26.0


def test_taef2_refusals(tmp_path):
    with pytest.raises(WeightsUnavailableError, match="--weights FOLDER"):
        relatent.load_autoencoder("taef2")
    with pytest.raises(WeightsUnavailableError, match="neither taef2_decoder"):
        relatent.load_autoencoder("taef2", weights=tmp_path)
    torch.save(build_encoder().state_dict(), tmp_path / "taef2_decoder.pth")
    with pytest.raises(UsageError, match="does not hold TAEF2"):
        relatent.load_autoencoder("taef2", weights=tmp_path)


def hub_cache(root, entry, model):
    """`model` as the hub's client leaves it: blobs aside, refs/main names the snapshot's commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = root / f"models--{entry.repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    model.save_pretrained(snapshot / entry.subfolder if entry.subfolder else snapshot)
    return commit


LOAD = """
import json, sys, torch, relatent
vae = relatent.load_autoencoder(sys.argv[1], device="cpu")
print(json.dumps(vae.identity()))
"""


@pytest.mark.parametrize("name", ["sd14", "sd15", "sd-vae-ft-mse", "sd3", "taesd"])
def test_hub_models_load_from_the_hubs_own_cache_layout(tmp_path, name):
    entry = CATALOGUE[name]
    if name == "taesd":
        from diffusers import AutoencoderTiny

        model = AutoencoderTiny(
            encoder_block_out_channels=(4, 4, 4, 4), decoder_block_out_channels=(4, 4, 4, 4),
            num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4,
        )  # fmt: skip
    else:
        model = small_kl(latent_channels=entry.latent_channels)
    commit = hub_cache(tmp_path, entry, model)
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", LOAD, name], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    identity = json.loads(done.stdout)
    assert identity["repository"] == entry.repository
    assert identity["revision"] == commit
    assert identity["weights_sha256"] == relatent.load_autoencoder(model).weights_sha256
    assert "accelerate" not in done.stderr


@pytest.mark.parametrize("name", ["sd15", "sdxl", "taef1"])
def test_absent_weights_are_one_line_without_a_traceback(tmp_path, name):
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    (tmp_path / "a.txt").write_text("x.png\n")
    command = [
        sys.executable,
        "-m",
        "relatent",
        "optimize",
        str(tmp_path / "a.txt"),
        str(tmp_path / "out"),
        "--vae",
        name,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert CATALOGUE[name].repository in done.stderr
    assert "--weights FOLDER" in done.stderr
    assert "tiny, sd14, sd15" in done.stderr
    assert not (tmp_path / "out").exists()


def test_local_weights_for_a_hub_name(vae_folder):
    for name in ("sd15", "sdxl", "tiny"):
        assert relatent.load_autoencoder(name, weights=vae_folder, device="cpu").name == name
    with pytest.raises(UsageError, match="16 latent channels at 1/8, the weights found have 4"):
        relatent.load_autoencoder("sd3", weights=vae_folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(source="sd99"), "unknown autoencoder 'sd99'.*tiny, sd14"),
        (dict(source="tiny", weights="absent"), "no such folder"),
        (dict(source="tiny", latent_channels=4), "go with a module"),
        (dict(source=3), "found int"),
        (dict(source=torch.nn.Identity(), weights="x"), "goes with a name"),
        (dict(source=torch.nn.Identity(), value_range=(1.0, 0.0)), "low < high"),
        (dict(source="tiny", device="tpu"), "unknown device|not supported"),
        (dict(source="tiny", device="cuda:99"), "CUDA devices found"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(UsageError, match=words):
        relatent.load_autoencoder(**arguments)


def test_folders_that_hold_something_else(tmp_path, vae_folder):
    with pytest.raises(UsageError, match=r"no config\.json"):
        relatent.load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(UsageError, match="holds a UNet2DModel"):
        relatent.load_autoencoder(tmp_path)
    config = json.loads((vae_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="cannot load the AutoencoderKL"):
        relatent.load_autoencoder(tmp_path)


def test_a_cell_is_what_sides_must_be_multiples_of(small_vae):
    from tiny_autoencoders import make

    assert small_vae.cell == 8
    assert relatent.load_autoencoder(make("flux2")).cell == 16  # two latent cells are one of the diffusion model's
    assert relatent.load_autoencoder(make("hunyuan-image")).cell == 32


def test_size_must_be_whole_cells(small_vae):
    small_vae.check_size(64)
    with pytest.raises(UsageError, match="try 56 or 64"):
        small_vae.check_size(60)
    with pytest.raises(UsageError, match="try 8 or 16"):
        small_vae.check_size(4)
