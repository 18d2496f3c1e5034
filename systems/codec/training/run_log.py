"""Where a training's values go: TensorBoard, a file of JSON lines, and Weights & Biases offline if it is asked for."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path

LINES = "log.jsonl"


class RunLog:
    """Writes values by step. What an interrupted run wrote after its checkpoint is removed, so no step is there twice.

    folder: made if need be. step: where the training goes on. settings: for Weights & Biases.
    """

    def __init__(self, folder: Path, step: int, wandb: bool = False, settings: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.writer = SummaryWriter(str(folder), purge_step=step)
        path = folder / LINES
        kept = [line for line in read_log(path) if line["step"] < step]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.lines = path.open("a", encoding="utf-8")
        self.wandb = _start_wandb(folder, settings) if wandb else None
        self.texts: dict[str, str] = {}

    def write(self, values: Mapping[str, float | str], step: int, epoch: int) -> None:
        """Names as `train/loss`; a text is written when it changes."""
        for name, value in values.items():
            if not isinstance(value, str):
                self.writer.add_scalar(name, value, step)
            elif self.texts.get(name) != value:
                self.texts[name] = value
                self.writer.add_text(name, value, step)
        self.lines.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")
        if self.wandb is not None:
            self.wandb.log({**values, "epoch": epoch}, step=step)

    def flush(self) -> None:
        """Before a checkpoint is written, so that no value older than it can be lost."""
        self.writer.flush()
        self.lines.flush()
        os.fsync(self.lines.fileno())

    def close(self) -> None:
        self.writer.close()
        self.lines.close()
        if self.wandb is not None:
            self.wandb.finish()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log, in order; an unfinished last line is left out."""
    if not path.exists():
        return []
    return [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")
    ]


def _start_wandb(folder: Path, settings: Mapping[str, Any] | None) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UsageError("--wandb needs Weights & Biases; install it with: pip install wandb") from error
    return wandb.init(mode="offline", dir=str(folder), project="relatent-codec", config=dict(settings or {}))
