"""Two processes that share each update end where one does."""

import json
import socket
import subprocess
import sys

import pytest
import torch
from relatent.systems.spectrogram.diffusion.model_folder import load_model
from relatent.systems.spectrogram.training.checkpoint import load_checkpoint
from relatent.systems.spectrogram.vae.model import load_vae
from vae_spectrograms import write_spectrograms

# one process imports everything and starts the others by fork, as a launcher would
SCRIPT = """
import json, os, sys
import torch
from relatent.systems.spectrogram.diffusion.trainer import DiffusionTrainer
from relatent.systems.spectrogram.vae.settings import VAESettings
from relatent.systems.spectrogram.vae.training import VAETrainer
from tiny_diffusion import tiny_settings, toy_latents
torch.set_num_threads(1)

def start(out, rank, world):
    if child := os.fork():
        return child
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world))
    if world == 1:
        del os.environ["LOCAL_RANK"]
    # an update of 7: one process has 3 rows of it, the other 4
    settings = tiny_settings(max_steps=4, batch_size=7, gradient_accumulation_steps=1, use_ema=True, save_every=1)
    said = []
    one = DiffusionTrainer(settings, toy_latents(), toy_latents(seed=1), out, progress=said.append)
    loss = one._loss
    if rank == world - 1:  # in the second update one process alone finds no finite gradient
        one._loss = lambda *values: loss(*values) * (float("nan") if one.step == 1 else 1.0)
    one.run()
    vae = VAETrainer(VAESettings(sys.argv[1], out + "_vae", resolution=32, num_users=2, block_out_channels=(4, 4),
        batch_size=2, gradient_accumulation_steps=2, max_steps=3, epochs=1, learning_rate=3e-3, device="cpu"), said.append)
    vae.run()
    weights = torch.cat([p.flatten() for p in one.parameters])
    with open(f"{out}_{rank}.json", "w") as file:
        json.dump({"skipped": one.optimization.skipped, "sum": float(weights.double().abs().sum()),
            "own": one.optimization.own.stop - one.optimization.own.start, "lines": len(said)}, file)
    os._exit(0)

for out, world in (("alone", 1), ("shared", 2)):
    children = [start(out, rank, world) for rank in range(world)]
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""


def difference(one, other):
    """Of tensors by name, in parts of their norm."""
    parts = [torch.cat([tensors[name].flatten() for name in one]) for tensors in (one, other)]
    return float((parts[0] - parts[1]).norm() / parts[0].norm())


def moments(checkpoint):
    return {number: state["exp_avg"] for number, state in checkpoint["optimizer"]["state"].items()}


@pytest.mark.slow
def test_two_processes_end_where_one_does(tmp_path, monkeypatch):
    tests = next(folder for folder in map(str, sys.path) if folder.endswith("tests"))
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, [tests, *sys.path])))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    data = write_spectrograms(tmp_path / "data")
    done = subprocess.run([sys.executable, "-c", SCRIPT, data], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alone, first, second = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("alone_0", "shared_0", "shared_1")
    )
    assert (alone["own"], first["own"], second["own"]) == (7, 3, 4)
    assert alone["skipped"] == first["skipped"] == second["skipped"] == 1
    assert first["sum"] == second["sum"]  # the processes stay together, to the bit
    assert first["lines"] > 0
    assert second["lines"] == 0
    for path, step in (("{}/checkpoint.pt", 4), ("{}_vae/vae_checkpoint.pt", 3)):
        one, other = (load_checkpoint(tmp_path / path.format(name)) for name in ("alone", "shared"))
        assert one["step"] == other["step"] == step
        assert difference(moments(one), moments(other)) < 1e-3  # of gradients
        assert difference(one["model"], other["model"]) < 1e-3
    models = [load_model(tmp_path / name) for name in ("alone", "shared")]
    assert difference(*(model.network.state_dict() for model in models)) < 1e-3
    losses = [model.record["best"]["validation_loss"] for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    vaes = [load_vae(tmp_path / name)[0] for name in ("alone_vae", "shared_vae")]
    with torch.no_grad():
        picture = torch.zeros(1, 3, 32, 32)
        assert torch.allclose(*(vae(picture).sample for vae in vaes), atol=1e-2)
    for end in ("", "_vae"):
        folders = [{path.name for path in (tmp_path / f"{name}{end}").iterdir()} for name in ("alone", "shared")]
        assert folders[0] == folders[1]
        logs = next((tmp_path / f"shared{end}").glob("*logs"))
        assert len(list(logs.iterdir())) == 1  # written by one process
