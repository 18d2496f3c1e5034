"""A training that is killed at random moments ends with the weights of one that is not."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from relatent.systems.codec.training.checkpoint import NAME, load_checkpoint

SCRIPT = """
import sys
from relatent.systems.codec.training.settings import TrainingSettings
from relatent.systems.codec.training.trainer import Trainer
import torch
torch.set_num_threads(1)
settings = TrainingSettings(
    sys.argv[1], sys.argv[2], epochs=30, batch_size=2, patch_size=64, learning_rate=1e-3,
    spectral_reg=True, truncation_epochs=10, phase2_reg=True,
)
print("ready", flush=True)
Trainer(settings, save_every=2).run()
"""
KILLS = 5


def start(pictures: Path, out: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, pictures, out], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_the_weights_are_the_same(pictures, tmp_path):
    undisturbed = start(pictures, tmp_path / "whole")
    assert undisturbed.wait() == 0
    moments, killed, steps = random.Random(0), 0, []
    checkpoint = tmp_path / "killed" / "small_lmbda0.013" / NAME
    while killed < KILLS:
        process = start(pictures, tmp_path / "killed")
        time.sleep(moments.uniform(0.2, 1.0))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break  # finished before it was killed
        killed += 1
        steps.append(load_checkpoint(checkpoint, "cpu")["step"] if checkpoint.exists() else 0)
    assert start(pictures, tmp_path / "killed").wait() == 0
    assert killed == KILLS, f"the training finished after {killed} kills: make it longer"
    assert steps[-1] > 0, "every kill came before the first checkpoint: nothing was tried"
    whole = load_checkpoint(tmp_path / "whole" / "small_lmbda0.013" / NAME, "cpu")
    again = load_checkpoint(checkpoint, "cpu")
    assert whole["step"] == again["step"] == 90
    for part in ("model", "criterion"):
        assert whole[part].keys() == again[part].keys()
        for name, tensor in whole[part].items():
            assert torch.equal(tensor, again[part][name]), name
