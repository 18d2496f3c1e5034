"""Which device a training runs on, with and without a launcher."""

import sys

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.training.acceleration import make_accelerator, share


def test_precisions_and_devices_may_follow_each_other():
    for precision in ("no", "bf16", "no"):
        one = make_accelerator("cpu", precision)
        assert one.mixed_precision == precision
        assert one.device.type == "cpu"
        assert share(one, 5) == slice(0, 5)


def test_an_accumulation_of_the_launcher_does_not_divide_the_loss(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    one, weight = make_accelerator("cpu"), torch.ones(1, requires_grad=True)
    one.backward(weight.sum())
    assert weight.grad.item() == 1.0


@pytest.mark.parametrize(
    ("environment", "device", "message"),
    [
        ({"WORLD_SIZE": "2"}, "cuda:1", "is one for all 2 launched processes"),
        ({"WORLD_SIZE": "2"}, "mps", "is one for all 2 launched processes"),
        ({"ACCELERATE_USE_CPU": "True"}, "cuda", "launched with --cpu"),
        ({}, "cuda:99", "is not there"),
        ({}, "nonsense", "unknown device"),
    ],
)
def test_devices_that_conflict(monkeypatch, environment, device, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        make_accelerator(device)


def test_fp16_needs_a_gpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        make_accelerator("auto", "fp16")


def test_shares_cover_an_update_once():
    class Processes:
        def __init__(self, index):
            self.num_processes, self.process_index = 3, index

    rows = [list(range(8))[share(Processes(index), 8)] for index in range(3)]
    assert [row for part in rows for row in part] == list(range(8))
    assert {len(row) for row in rows} == {2, 3}
    with pytest.raises(UsageError, match="3 processes cannot share an update of 2"):
        share(Processes(0), 2)


def test_without_accelerate_a_command_says_what_to_install(monkeypatch, tmp_path, capsys):
    from relatent.cli.main import main

    monkeypatch.setitem(sys.modules, "accelerate", None)
    for name in ("training.acceleration", "training.optimization", "vae.training"):
        monkeypatch.delitem(sys.modules, f"relatent.systems.spectrogram.{name}", raising=False)
    words = ["spectrogram", "train-vae", "--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    assert main(words) == 2
    assert "accelerate is missing; install it with: pip install 'relatent[spectrogram]'" in capsys.readouterr().err
