"""The command measures what a CPU can, names what it leaves out, and loses nothing where a section fails."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from relatent.benchmarks.gpu import command
from relatent.benchmarks.gpu.section import Cell
from relatent.benchmarks.gpu.sections import SECTIONS
from relatent.benchmarks.gpu.store import Store
from relatent.cli.main import main as relatent

ROOT = Path(__file__).resolve().parents[3]
ABSENT = ("h5py", "diffusers", "vae_toolkit", "safetensors", "tqdm", "matplotlib", "skimage", "torchvision", "onnx")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The cells by section, of one quick run on the CPU in a clone with little else installed, and its summary."""
    out = _in_a_clone(tmp_path_factory.mktemp("gpu"), {})
    return tuple(
        {name: json.loads((out / f"{name}.json").read_text()) for name in names} for names in (SECTIONS, ["summary"])
    )


def _in_a_clone(folder, environment, *options):
    """Run the command as `benchmarks.gpu`, not installed, and return the folder of its results."""
    # A module that is None in sys.modules cannot be imported.
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n")
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    line = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--quick",
        "--device",
        "cpu",
        "--out",
        str(folder / "out"),
        *options,
    ]
    environment = inherited | {"PYTHONPATH": str(folder)} | environment
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def test_every_section_is_measured_or_says_why_not(measured):
    sections, summary = measured[0], measured[1]["summary"]
    assert summary["errors"] == {}
    for name, section in sections.items():
        assert section["hardware"]["name"]
        assert {"torch", "triton", "numpy"} <= set(section["versions"])
        assert section["cells"] or all("GPU" in why for why in section["skipped"].values()), name
    assert set(sections["ceilings"]["cells"]) == {"first", "last"}
    assert sections["captured"]["cells"] == {}
    assert len(sections["captured"]["skipped"]) == 2


def test_an_iteration_stands_beside_its_decibels(measured):
    cells = measured[0]["iteration"]["cells"]
    plain = cells["32², batch 1, production"]
    assert plain["gain_db"] > 1.0
    assert plain["original_gain_db"] > 1.0
    assert plain["seconds"]["p20"] <= plain["seconds"]["median"] <= plain["seconds"]["p80"]
    assert plain["times_the_original"]["p20"] <= plain["times_the_original"]["p80"]
    assert plain["share_of_matrix_rate"] > 0.0
    assert "imposed" in cells["32², batch 1, production, thinned"]["gain_db"]


def test_convolutions_agree_in_every_way_to_run_them(measured):
    (cell,) = measured[0]["convolutions"]["cells"].values()
    ways = {name for row in cell["rows"] for name in row["seconds"]}
    assert ways >= {"as it is", "padded", "autograd", "flipped", "flipped, padded", "strided transposed"}
    assert not [row for row in cell["rows"] if "wrong" in row]


def test_the_run_counts_what_it_did(measured):
    (cell,) = measured[0]["run"]["cells"].values()
    assert cell["images"] == cell["asked_for"] == 5
    assert cell["pictures"] == "generated"
    assert sum(cell["share_by_phase"].values()) == pytest.approx(1.0)
    assert cell["gain_db"]["least"] >= 0.0
    assert cell["seconds_for_500_extrapolated"] == pytest.approx(100 * cell["seconds"])


def test_the_race_is_run_to_its_goal(measured):
    (cell,) = measured[0]["race"]["cells"].values()
    assert all(row["relatent"]["gain_db"] >= cell["goal_db"] - 0.01 for row in cell["images"])
    assert set(cell["times_relatents_seconds"]) == {"original, default", "original, published"}


def test_decoding_and_encoding_stand_beside_their_error(measured):
    (cell,) = measured[0]["without_gradient"]["cells"].values()
    assert cell["rows"]["fp32"]["decode_error"] == cell["rows"]["fp32"]["encode_error"] == 0.0
    assert 0.0 < cell["rows"]["bf16"]["decode_error"] < 0.1
    assert 0.0 < cell["rows"]["bf16"]["encode_error"] < 0.1
    assert cell["rows"]["bf16"]["psnr_db"] == pytest.approx(cell["rows"]["fp32"]["psnr_db"], abs=0.3)


def test_attention_written_out_is_attention(measured):
    (cell,) = measured[0]["attention"]["cells"].values()
    assert all(row["difference"] < 0.03 for row in cell["rows"].values())


def _section(prepare):
    return SimpleNamespace(NEEDS_GPU="", cells=lambda quick: [("one", 1.0, {}), ("two", 1.0, {})], prepare=prepare)


def test_an_error_is_kept_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def prepare(device, quick):
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setitem(SECTIONS, "captured", _section(prepare))
    monkeypatch.setitem(SECTIONS, "layers", _section(lambda device, quick: lambda rates: {"value": float("nan")}))
    arguments = ["--out", str(tmp_path), "--device", "cpu", "--quick", "--sections", "captured", "layers"]
    assert command.main(arguments) == 1
    failed = json.loads((tmp_path / "captured.json").read_text())
    assert failed["cells"]["one"]["error"].startswith("RuntimeError: no such kernel (test_command.py:")
    assert json.loads((tmp_path / "layers.json").read_text())["cells"]["two"] == {"value": None}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["errors"]) == {"captured: one", "captured: two"}
    assert "errors: captured: one: RuntimeError" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.partial"))


def test_each_cell_is_written_before_the_next_begins(tmp_path, monkeypatch):
    seen = []

    def prepare(device, quick):
        path = tmp_path / "layers.json"
        seen.append(list(json.loads(path.read_text())["cells"]) if path.exists() else [])
        return lambda rates: {"value": 1}

    monkeypatch.setitem(SECTIONS, "layers", _section(prepare))
    command.run(tmp_path, "cpu", quick=True, sections=["layers"])
    assert seen == [[], ["one"]]


def test_what_no_time_is_left_for_is_named(tmp_path, capsys):
    assert relatent(["bench", "--small", "--device", "cpu", "--minutes", "0", "--out", str(tmp_path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert not any(summary["measured"].values())
    assert summary["skipped"]["ceilings: first"] == "no time was left"
    assert len(summary["skipped"]) >= 10


def test_the_environment_is_restored(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "before")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with command.environment(tmp_path, 4):
        assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "triton")
    assert os.environ["TRITON_CACHE_DIR"] == "before"
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_a_result_replaces_its_file_whole(tmp_path):
    store = Store(tmp_path / "new", torch.device("cpu"), "command", quick=True)
    store.add(Cell("layers", "a", 1.0), {"rows": [float("inf"), (1, 2)]})
    store.skip("layers", "b", "no time was left")
    content = json.loads((tmp_path / "new" / "layers.json").read_text())
    assert content["cells"] == {"a": {"rows": [None, [1, 2]]}}
    assert content["skipped"] == {"b": "no time was left"}


@pytest.mark.slow
def test_kernels_in_the_interpreter(tmp_path):
    out = _in_a_clone(tmp_path, {"TRITON_INTERPRET": "1"}, "--sections", "kernels")
    (kernels,) = json.loads((out / "kernels.json").read_text())["cells"].values()
    assert {row["operation"] for row in kernels["rows"]} >= {
        "fused_loss",
        "fused_adam",
        "group_norm_silu",
        "upsample_conv",
    }
    assert all(row["difference"]["kernel"] < 0.02 for row in kernels["rows"])


def test_some_cells_alone(tmp_path):
    found = command.run(tmp_path, "cpu", 60.0, True, ["ceilings", "layers", "attention"], 0, cells=["tokens"])
    assert set(found["measured"]) == {"ceilings", "attention"}
    assert found["errors"] == {}
    assert json.loads((tmp_path / "summary.json").read_text())["command"].endswith("--cells tokens")
