"""spectrogram train and generate, from their options to the files they write."""

import pytest
from command_line import relatent_process, strict
from relatent.cli.main import build_parser, main
from relatent.systems.spectrogram.diffusion.model_folder import load_model
from relatent.systems.spectrogram.diffusion.settings import RECIPES
from tiny_diffusion import tiny_vae
from vae_spectrograms import write_spectrograms

SMALL = [
    "--block_out_channels",
    16,
    "--heads",
    2,
    "--layers-per-block",
    1,
    "--cross_attention_dim",
    16,
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("spectrogram")
    return root, write_spectrograms(root / "data"), tiny_vae(root / "vae_model")


def command(*words):
    return main(["spectrogram", *map(str, words)])


def test_train_and_generate(folders, capsys):
    root, data, vae = folders
    model, out = root / "model", root / "out"
    flags = [
        "--resolution",
        32,
        "--num_users",
        2,
        "--batch_size",
        4,
        "--use_ema",
        "--condition_scale",
        2,
        "--max-steps",
        2,
    ]
    words = ["train", "--data_dir", data, "--vae_dir", vae, "--output_dir", model, "--recipe", "small", *SMALL, *flags]
    assert command(*words, "--joint_steps", 1, "--classifier_steps", 2, "--json") == 0
    result = strict(capsys.readouterr().out)
    assert 0.0 <= result["classifier"]["accuracy"] <= 1.0
    assert (result["steps"], result["simulated"], result["latents"]["training"]) == (2, True, 16)
    assert result["joint"].keys() == {"before", "after", "settings"}
    settings = load_model(model).record["settings"]
    assert (settings["batch_size"], settings["use_ema"], settings["condition_scale"]) == (4, True, 2.0)
    assert settings["num_users"] == 2
    assert (model / "ema_unet").is_dir()
    assert command(*words) == 0  # nothing is left to do
    text = capsys.readouterr()
    assert "going on at step 2" in text.err
    assert "simulated held-out recordings" in text.out

    words = ["generate", "--model-dir", model, "--output_dir", out, "--samples-per-user", 2, "--user_ids", 1, 2]
    words += ["--num_inference_steps", 2, "--device", "cpu"]
    assert command(*words, "--json") == 0
    result = strict(capsys.readouterr().out)
    assert (result["samples"], result["new"], result["guidance_scale"]) == (4, 4, 2.0)
    assert len(list(out.glob("ID_*/sample_*.png"))) == 4
    assert command(*words) == 0
    assert "4 generated spectrograms, 0 of them now" in capsys.readouterr().out
    led = [*words[:4], root / "led", *words[5:], "--classifier-scale", 2]
    assert command(*led) == 0
    assert "classifier 2, 2 steps" in capsys.readouterr().out
    first = (out / "ID_1" / "sample_0000.png").read_bytes()
    assert first != (root / "led" / "ID_1" / "sample_0000.png").read_bytes()
    best = [*led[:2], model / "best", led[3], root / "led_best", *led[5:]]
    assert command(*best) == 0
    joint = [*led[:2], model / "joint", led[3], root / "led_joint", *led[5:]]
    capsys.readouterr()
    assert command(*joint) == 2
    error = capsys.readouterr().err
    assert "has no classifier; train it with `relatent spectrogram train" in error
    assert error.count("\n") == 1
    assert not (root / "led_joint").exists()
    assert command("check", "--model_path", vae, "--diffusion_dir", model) in (0, 1)
    assert "holds    diffusion: classifier" in capsys.readouterr().out
    assert command(*words, "--guidance-scale", 3) == 2
    assert "samples of another guidance_scale" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_originals_flags_work_on_every_recipe(folders, tmp_path, capsys, recipe):
    _, data, vae = folders
    flags = [
        "--resolution",
        32,
        "--num-users",
        2,
        "--batch-size",
        2,
        "--no-use_ema",
        "--condition-scale",
        3,
        "--max_steps",
        1,
    ]
    words = [
        "train",
        "--data-dir",
        data,
        "--vae-dir",
        vae,
        "--output-dir",
        tmp_path,
        "--recipe",
        recipe,
        *SMALL,
        *flags,
    ]
    assert command(*words, "--json") == 0
    settings = strict(capsys.readouterr().out)["settings"]
    found = (settings["num_users"], settings["batch_size"], settings["use_ema"], settings["condition_scale"])
    assert found == (2, 2, False, 3.0)
    for name, value in RECIPES[recipe].items():
        if name in ("mixed_precision", "gradient_accumulation_steps", "gradient_checkpointing", "lr_scheduler"):
            assert settings[name] == value


def test_both_spellings():
    parser = build_parser()
    one = parser.parse_args(["spectrogram", "train", "--output_dir", "a", "--batch_size", "3", "--no-use_ema"])
    other = parser.parse_args(["spectrogram", "train", "--output-dir", "a", "--batch-size", "3", "--no-use-ema"])
    assert vars(one) == vars(other)
    assert one.use_ema is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --data_dir with --vae_dir, or --dataset"),
        (["--data_dir", "data"], "needs --vae_dir"),
        (["--data_dir", "data", "--vae_dir", "vae", "--column", "initial_latents"], "--column is of --dataset"),
        (["--dataset", "x.h5", "--joint_steps", "3"], "need pictures"),
        (["--dataset", "x.h5"], "no such file"),
        (["--data_dir", "data", "--vae_dir", "nowhere"], "train-vae"),
        (["--dataset", "x.h5", "--learning_rate", "-1"], "learning_rate: expected a number above 0"),
    ],
)
def test_what_is_refused(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert command("train", "--output_dir", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_imports_no_torch():
    code = "import sys; from relatent.cli.main import build_parser; build_parser(); print('torch' in sys.modules)"
    import subprocess
    import sys

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    for name in ("train", "generate"):
        assert "--condition_scale" in relatent_process("spectrogram", name, "--help").stdout
