"""A training that is killed, at random moments and while it writes, ends as one that is not."""

import subprocess
import sys

import pytest
import torch
from relatent.systems.spectrogram.diffusion.model_folder import load_model
from relatent.systems.spectrogram.diffusion.trainer import NAME
from relatent.systems.spectrogram.training.checkpoint import load_checkpoint

# one process imports everything and starts each training by fork, before any thread of torch's
SCRIPT = """
import os, random, signal, sys, time
import torch
from relatent.engine.runtime import atomic
from relatent.systems.spectrogram.diffusion.trainer import train_diffusion
from tiny_diffusion import tiny_settings, toy_latents
torch.set_num_threads(1)
checkpoint, moments = "killed/checkpoint.pt", random.Random(0)

def start(out, strike=None):
    if child := os.fork():
        return child
    sys.stdout = sys.stderr = open(os.devnull, "w")
    atomic.os.fsync = lambda descriptor: None  # it takes most of the time, and only a machine that fails needs it
    if strike:
        replace = atomic.os.replace
        def kill(source, target):
            if os.path.basename(str(target)) == strike:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)
        atomic.os.replace = kill
    settings = tiny_settings(max_steps=12, use_ema=True, eval_every=6)
    train_diffusion(settings, toy_latents(), toy_latents(seed=1), out, simulated=True)
    os._exit(0)

def killed(child):
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

assert os.waitpid(start("whole"), 0)[1] == 0
assert killed(start("killed", "checkpoint.pt"))
assert killed(start("killed", "unet"))  # of the first best model
goes_on = 0  # trainings that were killed after they had gone on from a checkpoint
for _ in range(2):
    before, child = os.stat(checkpoint).st_ino, start("killed")
    while os.stat(checkpoint).st_ino == before:
        time.sleep(0.002)
    time.sleep(moments.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    goes_on += killed(child)
os.waitpid(start("killed", "model.json"), 0)
assert os.waitpid(start("killed"), 0)[1] == 0
print(goes_on)
"""


@pytest.mark.slow
def test_the_model_is_the_same(tmp_path, monkeypatch):
    tests = next(folder for folder in map(str, sys.path) if folder.endswith("tests"))
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, [tests, *sys.path])))
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 2
    whole, killed = (load_checkpoint(tmp_path / name / NAME) for name in ("whole", "killed"))
    assert whole["step"] == killed["step"] == 12
    assert whole["best"] == killed["best"]
    assert all(torch.equal(tensor, killed["model"][name]) for name, tensor in whole["model"].items())
    assert all(map(torch.equal, whole["ema"]["shadow_params"], killed["ema"]["shadow_params"]))
    for place in ("", "best"):
        one, other = (load_model(tmp_path / name / place).network.state_dict() for name in ("whole", "killed"))
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
