"""Autoencoders from files as people have them: variants, pipelines, single checkpoints, the hub, and broken ones."""

import json
import os
import pickle
import re
import subprocess
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import relatent
import torch
from authors_layout import ldm, wan
from helpers import PLAIN
from relatent.engine.autoencoders.catalogue import CATALOGUE
from relatent.engine.autoencoders.scaling import FactorScaling
from relatent.engine.errors import UsageError
from safetensors.torch import load_file, save_file
from tiny_autoencoders import FOUR, make

WEIGHTS = "diffusion_pytorch_model.safetensors"
WIDE = FOUR | dict(block_out_channels=(32, 32, 64, 64), layers_per_block=1)  # single files have 32 groups in each norm


def wide(kind="AutoencoderKL", **settings):
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, kind)(**(WIDE | settings))
    if kind == "AutoencoderKLFlux2":
        model.bn.running_mean.normal_()
        model.bn.running_var.uniform_(0.5, 2.0)
    return model


def same(vae, model):
    """Whether an autoencoder has the weights and the normalisation of this model."""
    wanted = relatent.load_autoencoder(model)
    return vae.weights_sha256 == wanted.weights_sha256 and vae.scaling == wanted.scaling


def contiguous(state):
    return {key: value.contiguous() for key, value in state.items()}


@pytest.mark.parametrize("name", ["kl", "qwen"])
def test_half_precision_variant_alone(tmp_path, name):
    model = make(name)
    model.half().save_pretrained(tmp_path, variant="fp16")
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.fp16.safetensors"]
    vae = relatent.load_autoencoder(tmp_path, device="cpu")
    assert same(vae, model.float())
    assert next(vae.decoder.parameters()).dtype == torch.float32


def test_full_weights_win_over_a_variant(tmp_path):
    make("kl", seed=1).half().save_pretrained(tmp_path, variant="fp16")
    make("kl", seed=2).save_pretrained(tmp_path)
    assert same(relatent.load_autoencoder(tmp_path, device="cpu"), make("kl", seed=2))


def test_pickled_weights(tmp_path):
    make("flux2").save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / "diffusion_pytorch_model.bin").is_file()
    assert same(relatent.load_autoencoder(tmp_path, device="cpu"), make("flux2"))


def test_weights_in_several_files(tmp_path):
    make("kl").save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*-of-*.safetensors"))) > 1
    assert same(relatent.load_autoencoder(tmp_path, device="cpu"), make("kl"))


def test_a_pipelines_folder_takes_its_name(tmp_path):
    make("wan21").save_pretrained(tmp_path / "my-pipeline" / "vae")
    (tmp_path / "my-pipeline" / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    vae = relatent.load_autoencoder(tmp_path / "my-pipeline", device="cpu")
    assert vae.name == "my-pipeline"
    assert same(vae, make("wan21"))


def test_attention_keys_of_old_diffusers(tmp_path):
    model = make("kl")
    model.save_pretrained(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(tmp_path / WEIGHTS)
    for new, name in old.items():
        state = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): value for key, value in state.items()}
    assert "decoder.mid_block.attentions.0.query.weight" in state
    save_file(state, tmp_path / WEIGHTS)
    assert same(relatent.load_autoencoder(tmp_path, device="cpu"), model)


CHANGES = {
    "missing: decoder.conv_in.bias": lambda state: state.pop("decoder.conv_in.bias"),
    "missing: encoder.conv_out.weight": lambda state: state.pop("encoder.conv_out.weight"),
    "unexpected: decoder.extra": lambda state: state.update({"decoder.extra": torch.zeros(1)}),
    r"of another shape: encoder.conv_in.bias \(3,\) in place of \((8|32),\)": lambda state: state.update(
        {"encoder.conv_in.bias": torch.zeros(3)}
    ),
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_decoder_that_is_not_the_one_on_disk_is_refused_by_key(tmp_path, words):
    make("kl").save_pretrained(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    CHANGES[words](state)
    save_file(state, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=words) as error:
        relatent.load_autoencoder(tmp_path)
    assert "\n" not in str(error.value)
    assert "Remedy: " in str(error.value)


@pytest.mark.parametrize("words", CHANGES)
@pytest.mark.parametrize("layout", ["authors", "diffusers"])
def test_a_single_file_that_is_not_all_of_it_is_refused_by_key(tmp_path, words, layout):
    state = wide("AutoencoderKLFlux2", latent_channels=8).state_dict()
    CHANGES[words](state)
    save_file(contiguous(ldm(state) if layout == "authors" else state), tmp_path / "ae.safetensors")
    with pytest.raises(UsageError, match=words):
        relatent.load_autoencoder(tmp_path / "ae.safetensors")


def test_many_faulty_keys_are_counted(tmp_path):
    make("kl").save_pretrained(tmp_path)
    state = {key: value for key, value in load_file(tmp_path / WEIGHTS).items() if not key.startswith("encoder.")}
    save_file(state, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=r"missing: encoder\.\S+, .* and \d+ more\. Remedy"):
        relatent.load_autoencoder(tmp_path)


@pytest.mark.parametrize("safe", [True, False])
def test_half_downloaded_weights(tmp_path, safe):
    make("kl").save_pretrained(tmp_path, safe_serialization=safe)
    path = next(path for path in tmp_path.iterdir() if path.suffix != ".json")
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:100], whole[:4], b""):
        path.write_bytes(part)
        with pytest.raises(
            UsageError, match=r"cannot load the AutoencoderKL in .*; download it again|is damaged|cannot load"
        ):
            relatent.load_autoencoder(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=rf"{path.name} is half downloaded.*download it again") as error:
        relatent.load_autoencoder(tmp_path)
    assert "\n" not in str(error.value)


def test_pointers_of_git_lfs(tmp_path):
    make("kl").save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UsageError, match="is a pointer of Git LFS, not the weights; fetch them with `git lfs pull`"):
        relatent.load_autoencoder(tmp_path)


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_other_than_rgb(tmp_path, channels):
    from diffusers import AutoencoderKL, AutoencoderKLWan

    AutoencoderKL(
        in_channels=channels, out_channels=channels, norm_num_groups=4, block_out_channels=(8,)
    ).save_pretrained(tmp_path / "kl")
    AutoencoderKLWan(base_dim=8, in_channels=channels, out_channels=channels).save_pretrained(tmp_path / "wan")
    for name in ("kl", "wan"):
        with pytest.raises(
            UsageError, match=f"takes {channels} and gives {channels} channels, RGB pictures have 3; use"
        ):
            relatent.load_autoencoder(tmp_path / name)


@pytest.mark.parametrize("layout", [lambda state: state, ldm, lambda state: ldm(state, nested=True)])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_single_file_of_flux2(tmp_path, layout, suffix):
    model = wide("AutoencoderKLFlux2", latent_channels=8, decoder_block_out_channels=(32, 32, 32, 64))
    state, path = contiguous(layout(model.state_dict())), tmp_path / f"flux2-vae{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    vae = relatent.load_autoencoder(path, device="cpu")
    assert vae.name == "flux2-vae"
    assert same(vae, model)


@pytest.mark.parametrize("layout", [lambda state: state, wan])
def test_single_file_of_wan_and_qwen_image(tmp_path, layout):
    from diffusers import AutoencoderKLQwenImage, AutoencoderKLWan

    torch.manual_seed(0)
    for model in (AutoencoderKLWan(base_dim=8), AutoencoderKLQwenImage(base_dim=8, num_res_blocks=2)):
        path = tmp_path / "wan_2.1_vae.safetensors"
        save_file(contiguous(layout(model.state_dict())), path)
        assert same(relatent.load_autoencoder(path, device="cpu"), model)


BESIDE = {  # another key of a whole model's checkpoint, and what its latents are scaled by
    "cond_stage_model.transformer.weight": ({"latent_channels": 4}, FactorScaling(0.18215)),
    "conditioner.embedders.0.weight": ({"latent_channels": 4}, FactorScaling(0.13025)),
    "model.diffusion_model.joint_blocks.0.weight": ({"latent_channels": 16}, FactorScaling(1.5305, 0.0609)),
    "model.diffusion_model.double_blocks.0.weight": ({"latent_channels": 16}, FactorScaling(0.3611, 0.1159)),
}


@pytest.mark.parametrize("key", BESIDE)
def test_the_autoencoder_inside_a_whole_models_checkpoint(tmp_path, key):
    settings, scaling = BESIDE[key]
    bare = {} if settings["latent_channels"] == 4 else {"use_quant_conv": False, "use_post_quant_conv": False}
    model = wide(**settings, **bare)
    state = {f"first_stage_model.{name}": value for name, value in ldm(model.state_dict()).items()}
    save_file(contiguous(state | {key: torch.zeros(1)}), tmp_path / "model.safetensors")
    vae = relatent.load_autoencoder(tmp_path / "model.safetensors", device="cpu")
    assert vae.weights_sha256 == relatent.load_autoencoder(model).weights_sha256
    assert vae.scaling == scaling


def test_scaling_that_no_file_holds_is_asked_for(tmp_path):
    model = wide()
    path = tmp_path / "vae.safetensors"
    save_file(contiguous(ldm(model.state_dict())), path)
    with pytest.raises(
        UsageError, match=r"--vae sd15 or sdxl, with --weights .*vae\.safetensors; or put a config\.json"
    ):
        relatent.load_autoencoder(path)
    for name, factor in (("sd15", 0.18215), ("sd14", 0.18215), ("sdxl", 0.13025), ("sd-vae-ft-mse", 0.18215)):
        vae = relatent.load_autoencoder(name, weights=path, device="cpu")
        assert (vae.name, vae.scaling) == (name, FactorScaling(factor))
        assert vae.native_size == CATALOGUE[name].native_size
    (tmp_path / "vae.json").write_text(json.dumps({"_class_name": "AutoencoderKL"} | WIDE | {"scaling_factor": 0.5}))
    vae = relatent.load_autoencoder(path, device="cpu")
    assert vae.scaling == FactorScaling(0.5)
    assert vae.weights_sha256 == relatent.load_autoencoder(model).weights_sha256


def test_statistics_that_no_file_holds_are_asked_for(tmp_path):
    path = tmp_path / "wan2.2_vae.safetensors"
    for name in ("wan22", "qwen21"):
        model = make(name)
        save_file(contiguous(model.state_dict()), path)
        with pytest.raises(UsageError, match="statistics are not in the file"):
            relatent.load_autoencoder(path)
        model.save_config(tmp_path)
        assert same(relatent.load_autoencoder(path, device="cpu"), model)
        (tmp_path / "config.json").unlink()


@pytest.mark.parametrize("name", ["dc", "hunyuan-image", "vq", "kvae", "ltx", "cosmos", "flux2-small", "asymmetric"])
def test_any_class_in_one_file_with_its_configuration_beside(tmp_path, name):
    model = make(name)
    model.save_config(tmp_path)
    path = tmp_path / "weights.safetensors"
    save_file(contiguous(model.state_dict()), path)
    assert same(relatent.load_autoencoder(path, device="cpu"), model)
    with pytest.raises(UsageError, match=r"holds no weights.*give the file itself: .*weights\.safetensors"):
        relatent.load_autoencoder(tmp_path)
    state = contiguous(model.state_dict())
    dropped = next(key for key in state if key.startswith("encoder.") and key.endswith("bias"))
    save_file({key: value for key, value in state.items() if key != dropped}, path)
    with pytest.raises(UsageError, match=f"missing: {re.escape(dropped)}"):
        relatent.load_autoencoder(path)


class Callback:
    """As checkpoints of trainers hold them beside the weights."""


def test_a_checkpoint_with_more_than_tensors_is_not_executed(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": ldm(wide().state_dict()), "callbacks": [Callback()]}, path)
    with pytest.raises(UsageError, match=r"holds more than tensors.*use a \.safetensors file of the same weights"):
        relatent.load_autoencoder(path)


class Hostile:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("arguments", [{}, {"weights": "model.ckpt"}])
def test_what_is_no_checkpoint_is_refused_without_the_advice_to_execute_it(tmp_path, arguments, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "executed"
    for content in (b"a text of several words\n", b"", pickle.dumps(Hostile(trace)), pickle.dumps(Hostile(trace), 2)):
        Path("model.ckpt").write_bytes(content)
        with pytest.raises(UsageError, match=r"^model\.ckpt is damaged or no state dict: it ") as caught:
            relatent.load_autoencoder("tiny" if arguments else "model.ckpt", **arguments)
        shown = "".join(traceback.format_exception(caught.value))
        assert "weights_only=False" not in shown
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("; download it again, or use a .safetensors file of the same weights")
    assert not trace.exists()


def test_a_run_records_the_file_and_goes_on_with_it(tmp_path, photographs, monkeypatch):
    from relatent.factory.executors.worker import reload_autoencoder
    from relatent.factory.state.run_folder import RunFolder

    model = wide("AutoencoderKLFlux2", latent_channels=8)
    save_file(contiguous(ldm(model.state_dict())), tmp_path / "ae.safetensors")
    monkeypatch.chdir(tmp_path)
    config = relatent.OptimizationConfig(iterations=1, precision="fp32", **PLAIN)
    run = relatent.optimize_directory(
        photographs, "out", "ae.safetensors", config=config, size=32, limit=1, device="cpu"
    )
    assert run["counts"]["failed"] == 0
    assert run["vae"]["scaling"]["kind"] == "batch_norm"
    assert len(run["vae"]["scaling"]["mean"]) == 32
    monkeypatch.chdir(tmp_path.parent)
    found = reload_autoencoder(RunFolder.open(tmp_path / "out"))
    assert found.weights_sha256 == run["vae"]["weights_sha256"]


def test_files_that_hold_something_else(tmp_path):
    save_file({"lora.up.weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(UsageError, match="holds no autoencoder whose keys are known"):
        relatent.load_autoencoder(tmp_path / "lora.safetensors")
    (tmp_path / "code.ckpt").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(UsageError, match="damaged or no state dict"):
        relatent.load_autoencoder(tmp_path / "code.ckpt")
    with pytest.raises(UsageError, match="no folder, no file, no repository"):
        relatent.load_autoencoder(str(tmp_path / "absent.safetensors"))
    with pytest.raises(UsageError, match=r"give the file itself: .*code\.ckpt"):
        relatent.load_autoencoder(tmp_path)


LOAD = """
import json, sys, relatent
vae = relatent.load_autoencoder(sys.argv[1], device="cpu")
print(json.dumps(vae.identity()))
"""


def hub(root, code, *arguments):
    environment = os.environ | {"HF_HUB_CACHE": str(root), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("subfolder", "variant"), [("vae", None), (None, None), ("vae", "fp16")])
def test_a_repository_of_the_hub_from_its_cache(tmp_path, subfolder, variant):
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--someone--a-model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    model = make("flux2-small")
    model = model.half() if variant else model
    model.save_pretrained(snapshot / subfolder if subfolder else snapshot, variant=variant)
    done = hub(tmp_path, LOAD, "someone/a-model")
    assert done.returncode == 0, done.stderr
    identity = json.loads(done.stdout)
    assert (identity["name"], identity["repository"], identity["revision"]) == ("someone/a-model",) * 2 + (commit,)
    assert identity["weights_sha256"] == relatent.load_autoencoder(model.float()).weights_sha256
    assert identity["scaling"]["kind"] == "batch_norm"


def test_a_repository_that_cannot_be_had_is_one_line(tmp_path):
    (tmp_path / "a.txt").write_text("x.png\n")
    command = [sys.executable, "-m", "relatent", "optimize", str(tmp_path / "a.txt"), str(tmp_path / "out")]
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, "--vae", "someone/absent"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert (
        "the weights of 'someone/absent' (on the hub; there is no folder or file of this name) cannot be had"
        in done.stderr
    )
    assert "Remedy: go online" in done.stderr


@pytest.mark.parametrize("name", ["sd15", "sdxl", "someone/absent"])
def test_a_hub_that_cannot_be_reached_is_one_line_without_retries(tmp_path, name):
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    environment.pop("HF_HUB_CACHE", None)
    (tmp_path / "a.txt").write_text("x.png\n")
    command = [sys.executable, "-m", "relatent", "optimize", str(tmp_path / "a.txt"), str(tmp_path / "out")]
    done = subprocess.run([*command, "--vae", name], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"not in the cache {tmp_path / 'hub'}, and http://127.0.0.1:9 cannot be reached" in done.stderr
    assert "HF_HOME" in done.stderr
    assert "FOLDER in diffusers' layout" in done.stderr


class Absent(BaseHTTPRequestHandler):
    """A hub that has nothing."""

    def do_HEAD(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_hub_that_answers_is_left_to_its_client(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Absent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", LOAD, "sdxl"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        server.shutdown()
    assert done.returncode == 1
    assert "WeightsUnavailableError: the weights of 'sdxl' (stabilityai/sdxl-vae) cannot be had: 404" in done.stderr


CHECK = """
import sys
from relatent.engine.autoencoders.files.hub import check_hub
check_hub(sys.argv[1], sys.argv[1], (None, "vae"), None, "")
"""


@pytest.mark.parametrize("subfolder", ["", "vae"])
def test_a_hub_that_cannot_be_reached_does_not_matter_where_its_cache_has_the_weights(tmp_path, subfolder):
    folder = tmp_path / "models--someone--a-model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    place = folder / "snapshots" / "0123456789abcdef0123456789abcdef01234567" / subfolder
    make("kl").save_pretrained(place)
    assert hub(tmp_path, CHECK, "someone/a-model").returncode == 0
    (place / WEIGHTS).unlink()
    assert "WeightsUnavailableError" in hub(tmp_path, CHECK, "someone/a-model").stderr


@pytest.mark.parametrize(("name", "subfolder"), [("sd15", "vae"), ("flux2", "vae")])
def test_a_names_weights_in_the_hubs_cache_must_be_all_there(tmp_path, name, subfolder):
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / f"models--{CATALOGUE[name].repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    place = folder / "snapshots" / commit / subfolder
    make("kl" if name == "sd15" else "flux2").save_pretrained(place)
    state = load_file(place / WEIGHTS)
    state.pop("encoder.conv_in.weight")
    save_file(state, place / WEIGHTS)
    done = hub(tmp_path, LOAD, name)
    assert done.returncode == 1
    assert "UsageError" in done.stderr
    assert "encoder.conv_in.weight" in done.stderr


def test_a_truncated_file_in_the_hubs_cache(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--someone--a-model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    make("kl").save_pretrained(snapshot)
    whole = (snapshot / WEIGHTS).read_bytes()
    (snapshot / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    done = hub(tmp_path, LOAD, "someone/a-model")
    assert done.returncode == 1
    assert f"UsageError: {snapshot / WEIGHTS} is half downloaded" in done.stderr
