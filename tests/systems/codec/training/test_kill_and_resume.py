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
Trainer(settings, save_every=2).run()
"""
KILLS = 5


def start(pictures: Path, out: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, pictures, out], stdout=subprocess.DEVNULL)


def identity(path: Path) -> int:
    """Another number for each checkpoint; 0 while there is none."""
    return path.stat().st_ino if path.exists() else 0


@pytest.mark.slow
def test_the_weights_are_the_same(pictures, tmp_path):
    undisturbed = start(pictures, tmp_path / "whole")
    checkpoint = tmp_path / "killed" / "small_lmbda0.013" / NAME
    moments = random.Random(0)
    for _ in range(KILLS):
        before, process = identity(checkpoint), start(pictures, tmp_path / "killed")
        while identity(checkpoint) == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the training finished or failed before it was killed"
    stopped_at = load_checkpoint(checkpoint, "cpu")["step"]
    assert start(pictures, tmp_path / "killed").wait() == 0
    assert undisturbed.wait() == 0
    whole = load_checkpoint(tmp_path / "whole" / "small_lmbda0.013" / NAME, "cpu")
    again = load_checkpoint(checkpoint, "cpu")
    assert whole["step"] == again["step"] == 90 > stopped_at > 0
    for part in ("model", "criterion"):
        assert whole[part].keys() == again[part].keys()
        for name, tensor in whole[part].items():
            assert torch.equal(tensor, again[part][name]), name
