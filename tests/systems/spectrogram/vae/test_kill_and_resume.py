"""A training that is killed, at random moments and at the worst ones, ends as one that is not."""

import subprocess
import sys

import pytest
import torch
from relatent.systems.spectrogram.training.checkpoint import load_checkpoint
from relatent.systems.spectrogram.vae.model import RECORD, load_vae
from relatent.systems.spectrogram.vae.training import NAME

# one process imports everything and starts each training by fork, before any thread of torch's
SCRIPT = """
import os, random, signal, sys, time
import torch
from relatent.engine.runtime import atomic
from relatent.systems.spectrogram.vae.settings import VAESettings
from relatent.systems.spectrogram.vae.training import train_vae
torch.set_num_threads(1)
data, checkpoint, moments = sys.argv[1], "killed/vae_checkpoint.pt", random.Random(0)

def start(out, strike=None):
    if child := os.fork():
        return child
    sys.stdout = sys.stderr = open(os.devnull, "w")
    atomic.os.fsync = lambda descriptor: None  # it takes most of the time, and only a machine that fails needs it
    if strike:
        name, before = strike
        rename = os.rename if name == "vae" else os.replace
        def kill(source, target):
            hit = os.path.basename(str(target)) == name
            if not (hit and before):
                rename(source, target)
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)
        setattr(atomic.os, rename.__name__, kill)
        if name == "vae":
            atomic.os.replace = kill
    train_vae(VAESettings(data, out, resolution=32, num_users=2, block_out_channels=(4, 4), batch_size=4, epochs=3,
        learning_rate=3e-3, use_ema=True, device="cpu", save_every=2))
    os._exit(0)

def killed(child):
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

assert os.waitpid(start("whole"), 0)[1] == 0
assert killed(start("killed", ("vae_checkpoint.pt", True)))
assert killed(start("killed", ("vae_checkpoint.pt", False)))
goes_on = 0  # trainings that were killed after they had gone on from a checkpoint
for _ in range(3):
    before, child = os.stat(checkpoint).st_ino, start("killed")
    while os.stat(checkpoint).st_ino == before:
        time.sleep(0.002)
    time.sleep(moments.uniform(0.0, 0.05))
    os.kill(child, signal.SIGKILL)
    goes_on += killed(child)
# behind the first `vae`; then between taking an old one away and putting a new one there
for strike in (("vae", False), ("vae", True), ("vae_training.json", True)):
    assert killed(start("killed", strike))
assert os.waitpid(start("killed"), 0)[1] == 0
print(goes_on)
"""


@pytest.mark.slow
def test_the_model_is_the_same(spectrograms, tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT, spectrograms], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 3
    whole, killed = (load_checkpoint(tmp_path / name / NAME) for name in ("whole", "killed"))
    assert whole["step"] == killed["step"] == 12
    for part in (lambda content: content["model"], lambda content: content["best"]["model"]):
        assert all(torch.equal(tensor, part(killed)[name]) for name, tensor in part(whole).items())
    assert all(map(torch.equal, whole["ema"]["shadow_params"], killed["ema"]["shadow_params"]))
    one, other = (load_vae(tmp_path / name) for name in ("whole", "killed"))
    assert all(torch.equal(tensor, other[0].state_dict()[name]) for name, tensor in one[0].state_dict().items())
    assert one[1] | {"settings": {}} == other[1] | {"settings": {}}
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["vae", NAME, "vae_logs", RECORD]
