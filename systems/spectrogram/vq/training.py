"""The loop of both trainings. It can be killed at any moment: started again, it goes on from its last checkpoint.

On a CPU it then ends with the weights of a training that was not disturbed: all that is random depends on seed and step alone.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ....engine.errors import RunStoppedError
from ....engine.runtime.memory import peak_memory
from ..diffusion.draws import generator_of
from ..training.checkpoint import load_own_checkpoint, save_checkpoint
from ..training.pace import Pace
from ..training.run_log import RunLog
from ..training.schedule import learning_rate
from .settings import TrainingSettings

STATE = ("step", "best", "seconds", "peak_bytes")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """What a network does on held-out recordings. error: the less, the better. values, rows: for the log, by name; see `RunLog.grid`."""

    error: float
    values: dict[str, float]
    rows: Tensor | None = None


class Training:
    """AdamW on `network`, which has the best weights of all evaluations at the end.

    name: of the checkpoint and the logs in `folder`. data: digest of what is trained on. loss: the terms of update `step`, scalars, `loss` their
    sum. evaluate: of the network in evaluation mode. Raises `UsageError` where the checkpoint is of other settings or data.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        settings: TrainingSettings,
        data: str,
        folder: Path,
        loss: Callable[[int], dict[str, Tensor]],
        evaluate: Callable[[], Evaluation],
        progress: Progress = print,
    ) -> None:
        self.name, self.network, self.settings, self.data, self.folder = name, network, settings, data, folder
        self.loss, self.evaluate, self.progress = loss, evaluate, progress
        self.device = next(network.parameters()).device
        self.optimizer = torch.optim.AdamW(
            [one for one in network.parameters() if one.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.step, self.peak_bytes = 0, 0
        self.seconds = 0.0  # of the processor, so that what else runs on the machine does not count
        self.best: dict[str, Any] = {}  # error, step and the weights, once there are some
        self.path = folder / f"{name}_checkpoint.pt"
        self._go_on()

    def run(self) -> dict[str, Any]:
        """Train to the end. Returns what the records have in common. Raises `RunStoppedError` where the training diverges."""
        settings, pace = self.settings, Pace(self.step)
        log = RunLog(self.folder / f"{self.name}_logs", self.step)
        try:
            while self.step < settings.max_steps:
                begin = time.process_time()
                values = self._update()
                self.step += 1
                last = self.step == settings.max_steps
                if last or self.step % settings.eval_every == 0:
                    self._evaluate(log)
                self.seconds += time.process_time() - begin
                self.peak_bytes = max(self.peak_bytes, peak_memory(self.device))
                if self.step % settings.log_every == 0:
                    log.scalars({f"train/{name}": value for name, value in values.items()}, self.step)
                if pace.due(self.step) is not None:
                    of = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
                    self.progress(f"{self.name}: step {self.step}/{settings.max_steps}: {of}")
                if last or self.step % settings.save_every == 0:
                    self._save(log)
        finally:
            log.close()
        self.network.load_state_dict(self.best["model"])
        self.network.eval()
        return {
            "best_step": self.best["step"],
            "steps": self.step,
            "processor_seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "parameters": sum(one.numel() for one in self.network.parameters()),
        }

    def _update(self) -> dict[str, float]:
        settings = self.settings
        rate = learning_rate(
            settings.learning_rate, settings.lr_scheduler, settings.lr_warmup_steps, self.step, settings.max_steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.random.fork_rng(devices=[]):
            # dropout, null tokens, and the vectors that replace codes which are hardly used
            torch.manual_seed(generator_of(settings.seed, self.step).initial_seed())
            terms = self.loss(self.step)
            terms["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.max_grad_norm)
        if not norm.isfinite():
            raise RunStoppedError(
                f"{self.name}: the gradient is not finite at step {self.step}; start anew in another output_dir with a smaller "
                "learning_rate"
            )
        self.optimizer.step()
        return {name: float(term.detach()) for name, term in terms.items()} | {"lr": rate}

    def _evaluate(self, log: RunLog) -> None:
        self.network.eval()
        with torch.no_grad():
            found = self.evaluate()
        log.scalars({f"held_out/{name}": value for name, value in found.values.items()}, self.step)
        if found.rows is not None:
            log.grid("held_out/reconstruction", found.rows, self.step)
        of = ", ".join(f"{name} {value:.4g}" for name, value in found.values.items())
        self.progress(f"{self.name}: step {self.step}: {of} on held-out recordings")
        if not self.best or found.error < self.best["error"]:
            # a deep copy: the tensors of a state_dict are those that the next update changes
            self.best = {
                "error": found.error,
                "step": self.step,
                "model": dict(copy.deepcopy(self.network.state_dict())),
            }

    def _go_on(self) -> None:
        keys, settings = {"model", "optimizer", *STATE}, self.settings.decisive()
        content = load_own_checkpoint(self.path, self.device, keys, settings, self.data, "data")
        if content is None:
            return
        self.network.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        for name in STATE:
            setattr(self, name, content[name])
        self.progress(f"{self.name}: going on at step {self.step}")

    def _save(self, log: RunLog) -> None:
        log.flush()
        content = {
            "settings": self.settings.decisive(),
            "data": self.data,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in STATE},
        }
        save_checkpoint(self.path, content)
