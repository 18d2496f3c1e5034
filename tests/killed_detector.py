"""What runs in the processes that the detector's test_training.py kills."""

import os
import signal
from unittest.mock import patch

import torch
from cubes import LevelMapper
from relatent.systems.anomaly.data.volume_folder import read_folder
from relatent.systems.anomaly.detector import checkpoint
from relatent.systems.anomaly.detector.training import train_detector


def work(folder, settings, moment=None):
    """The training in `folder`, beside the volumes; the process kills itself where it writes its state the `moment`-th time."""
    torch.set_num_threads(1)
    save, states = checkpoint.save, []

    def strike(path, contents):
        states.append(path.name)
        if moment is not None and states.count(checkpoint.STATE) == moment:
            path.with_name(f".{path.stem}.partial-{os.getpid()}.ckpt").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        save(path, contents)

    with patch.object(os, "fsync"), patch.object(checkpoint, "save", strike):  # only a machine that fails needs fsync
        train_detector(LevelMapper(), read_folder(folder.parent / "cubes")[0], folder, settings)
