import json

import pytest
from relatent import PRESETS, LatentOptimizer, OptimizationConfig, preset
from relatent.engine.errors import UsageError


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("iterations", 0, "at least 1"),
        ("iterations", 2.5, "whole number"),
        ("learning_rate", -1.0, "above 0"),
        ("learning_rate", float("nan"), "above 0"),
        ("relative_learning_rate", 0.0, "above 0"),
        ("betas", (0.9, 1.0), r"\[0, 1\)"),
        ("betas", (0.9,), "two numbers"),
        ("betas", 3, "betas: expected two numbers"),
        ("betas", None, "betas: expected two numbers"),
        ("betas", ["a", "b"], "betas: expected two numbers"),
        ("betas", "ab", "betas: expected two numbers"),
        ("convergence_threshold", 1.0, "0 turns it off"),
        ("target_gain", 0.0, "above 0"),
        ("target_psnr", -3.0, "target_psnr: expected a number above 0"),
        ("target_psnr", "30", "target_psnr: expected a number above 0"),
        ("precision", "fp8", "fp32, bf16, fp16"),
        ("loss_function", "mse + nothing", "nothing"),
        ("loss_function", "-1*mse", "mse"),
        ("loss_function", "0*mse", "above 0"),
        ("loss_function", "1.2.3*mse", "above 0"),
    ],
)
def test_bad_settings_are_refused_by_name(field, value, word):
    with pytest.raises(ValueError, match=word) as caught:
        OptimizationConfig(**{field: value})
    assert isinstance(caught.value, UsageError)


def test_round_trip_through_json():
    config = OptimizationConfig(
        iterations=7, betas=(0.5, 0.6), loss_function="mse + 0.1*l1", target_gain=3.0, target_psnr=30.0
    )
    assert OptimizationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_files_and_overrides(tmp_path):
    toml = tmp_path / "a.toml"
    toml.write_text('iterations = 9\nloss_function = "l1"\n')
    assert OptimizationConfig.from_file(toml, iterations=3) == OptimizationConfig(iterations=3, loss_function="l1")
    text = tmp_path / "a.json"
    text.write_text('{"betas": [0.7, 0.9]}')
    assert OptimizationConfig.from_file(text).betas == (0.7, 0.9)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.toml", "iterations = ", "cannot read"),
        ("a.json", "[1]", "table"),
        ("a.toml", "iteration = 3", "unknown setting iteration"),
    ],
)
def test_bad_files(tmp_path, name, content, word):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=word):
        OptimizationConfig.from_file(path)


def test_missing_file(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        OptimizationConfig.from_file(tmp_path / "none.toml")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_settings_that_overrides_win_over(name):
    assert preset(name) == OptimizationConfig(**PRESETS[name])
    changed = preset(name, iterations=7, loss_function="l1")
    assert (changed.iterations, changed.loss_function) == (7, "l1")
    assert LatentOptimizer(name).config == preset(name)


def test_the_default_is_balanced_and_other_names_are_refused():
    assert LatentOptimizer().config == preset("balanced") == preset(None) == OptimizationConfig()
    with pytest.raises(UsageError, match=r"preset: expected one of draft, fast, .*found 'slow'"):
        preset("slow")
    with pytest.raises(UsageError, match="expected one of draft, fast"):
        LatentOptimizer("slow")
    with pytest.raises(UsageError, match="unknown setting name"):
        preset("fast", name="x")
