"""models, doctor and export-onnx."""

import pytest
import torch
from command_line import strict
from relatent.cli.main import main


def test_models_and_doctor(capsys):
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in text
    assert main(["models", "--json"]) == 0
    entries = strict(capsys.readouterr().out)
    assert entries["taef2"]["latent_channels"] == 32
    assert (entries["flux2"]["repository"], entries["flux2"]["tflop"]) == ("black-forest-labs/FLUX.2-dev", 5.07)
    line = next(line for line in text.splitlines() if line.startswith("qwen-image "))
    assert line.split()[:6] == ["qwen-image", "16", "8", "1024", "2.23", "Qwen/Qwen-Image:"]
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert torch.__version__.split("+")[0] in text
    assert main(["doctor", "--json"]) == 0
    paths = strict(capsys.readouterr().out)["paths"]
    assert paths["CUDA"]["on"] == torch.cuda.is_available()
    assert paths["torchvision"] == {"on": True, "why": "matches torch"}


def test_export_onnx(tmp_path, vae_folder, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["export-onnx", "--vae", str(vae_folder), "--size", "32", str(tmp_path / "a.onnx")]) == 0
    text = capsys.readouterr().out
    assert "decoder: " in text
    assert "encoder: " in text
    assert (tmp_path / "a-encoder.onnx").exists()
