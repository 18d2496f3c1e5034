"""A training that is killed at random moments and started again ends with the weights of one that is not."""

import subprocess
import sys

import pytest
import torch

# one process imports everything and starts each training by fork, before any thread of torch's
SCRIPT = """
import os, random, signal, sys, time
from relatent.cli.main import main
import relatent.systems.anomaly.training.run, torch
torch.set_num_threads(1)
arguments, moments, last = sys.argv[1:], random.Random(0), "killed/vqvae_debug/fold_1/checkpoints/last.ckpt"

def start(out):
    if child := os.fork():
        return child
    sys.stdout = sys.stderr = open(os.devnull, "w")
    os._exit(main(["anomaly", "train", *arguments, f"output_dir={out}"]))

assert os.waitpid(start("whole"), 0)[1] == 0
goes_on = 0  # trainings that were killed after they had gone on from a checkpoint
for _ in range(5):
    before, child = os.path.exists(last), start("killed")
    while not os.path.exists(last) and not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(0.005)
    time.sleep(moments.uniform(0.0, 0.5))
    os.kill(child, signal.SIGKILL)
    goes_on += before and os.WIFSIGNALED(os.waitpid(child, 0)[1])
assert os.waitpid(start("killed"), 0)[1] == 0
print(goes_on)
"""


@pytest.mark.slow
def test_the_weights_are_the_same(data, tmp_path):
    arguments = ["--config-name=config_debug", "training.epochs=12", "training.early_stopping_patience=12", *data]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2
    whole, killed = (tmp_path / name / "vqvae_debug" / "fold_1" / "checkpoints" for name in ("whole", "killed"))
    names = sorted(path.name for path in whole.iterdir())
    assert sorted(path.name for path in killed.iterdir()) == names
    assert len(names) == 4
    for name in names:
        one, other = (torch.load(folder / name, weights_only=True) for folder in (whole, killed))
        assert one["epoch"] == other["epoch"]
        assert one["state_dict"].keys() == other["state_dict"].keys()
        for key, value in one["state_dict"].items():
            assert torch.equal(value, other["state_dict"][key]), (name, key)
