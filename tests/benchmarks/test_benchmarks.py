"""The suite runs with only torch, Triton, numpy, h5py and pytest installed, and its results are complete."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from relatent.benchmarks.bench_reader import measure_shape
from relatent.benchmarks.bench_reader import table as reader_table
from relatent.benchmarks.results import write_result
from relatent.benchmarks.suite import Suite, _without_nan, table
from relatent.benchmarks.timing import measure
from relatent.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("PIL", "diffusers", "vae_toolkit", "safetensors", "tqdm", "matplotlib", "skimage", "torchvision", "onnx")


@pytest.mark.slow
def test_suite_in_a_clone_with_nothing_installed(tmp_path):
    # A module that is None in sys.modules cannot be imported.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n")
    command = [sys.executable, "-m", "benchmarks.gpu", "--small", "--device", "cpu", "--out", str(tmp_path / "results")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").glob("suite-*.json")
    content = json.loads(path.read_text())
    assert content["not_measured"] == {}
    assert content["hardware"]["name"]
    assert {row["form"] for row in content["iterations"]} == {"eager", "compiled"}
    assert all(row["seconds"]["median"] > 0 and row["nominal_flops_per_image"] > 0 for row in content["iterations"])
    operations = {row["operation"] for row in content["kernels"]}
    assert operations >= {"fused_loss", "fused_adam", "group_norm_silu", "upsample_conv"}
    assert all("kernel" in row["seconds"] and row["difference"]["kernel"] < 0.02 for row in content["kernels"])
    quality = content["equal_quality"]
    assert quality["relatent_gain_db"] == pytest.approx(quality["original_gain_db"], abs=0.3)
    assert quality["original_gain_db"] > 1.0
    assert content["layers"]
    assert "| 32² | 2 | rewritten | compiled |" in table(content)


def test_what_no_time_is_left_for_is_listed(tmp_path, capsys):
    assert main(["bench", "--small", "--device", "cpu", "--minutes", "0", "--out", str(tmp_path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["iterations"] == []
    assert len(content["not_measured"]) >= 5
    assert all("wanted" in reason for reason in content["not_measured"].values())


def test_a_suite_that_is_cut_off_keeps_what_it_had(tmp_path):
    device, saved = torch.device("cpu"), []
    suite = Suite(device, 1.0, True, lambda content: saved.append(dict(content)))
    suite.section("good", 1, lambda: {"value": 1.0})

    def bad():
        raise RuntimeError("out of luck\nand more")

    assert suite.section("bad", 1, bad) is None
    assert saved[0]["good"] == {"value": 1.0}
    assert suite.content["not_measured"] == {"bad": "RuntimeError: out of luck"}
    path = write_result("x", device, "none", _without_nan({"a": [float("nan"), {"b": float("inf")}, 1.5]}), tmp_path)
    assert json.loads(path.read_text())["a"] == [None, {"b": None}, 1.5]


def test_the_readers_benchmark():
    rows = measure_shape((4, 4, 4), 80, 1)
    assert len(rows) == 3 * 2 * 2 + 2 * 2
    assert all(0 < row["samples_per_second"]["least"] <= row["samples_per_second"]["most"] for row in rows)
    assert "| 4×4×4 | `dataset.h5` over shards | DataLoader, 2 workers | " in reader_table({"4×4×4": rows})


def test_quantiles():
    found = measure(lambda: torch.ones(10), torch.device("cpu"), repeats=5)
    assert 0 < found["p20"] <= found["median"] <= found["p80"]
