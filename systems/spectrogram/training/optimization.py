"""The weights of a training and their updates, by accelerate."""

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ....engine.errors import RunStoppedError
from .acceleration import share

MOST_SKIPPED = 20  # updates in a row
KEYS = {"optimizer", "scaler", "ema", "skipped"}
Part = TypeVar("Part", bound=Sized)


class Rates(Protocol):
    """The settings of AdamW."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...


class Optimization:
    """AdamW on a module's weights, on one device or in several processes that share each update.

    model: the module as a training must call it, with autocast where the precision is mixed; it synchronises the gradients of several
    processes. ema: the running mean of the weights, or None. skipped: updates that were left out.
    """

    def __init__(
        self, accelerator: Accelerator, module: nn.Module, settings: Rates, rows: int, ema: EMAModel | None = None
    ) -> None:
        """module: on its device; its own forward is replaced where the precision is mixed. rows: of an update, over all processes."""
        self.accelerator, self.rows, self.own = accelerator, rows, share(accelerator, rows)
        self.most_norm, self.ema = settings.max_grad_norm, ema
        self.parameters = list(module.parameters())
        adam = torch.optim.AdamW(self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.model = accelerator.prepare_model(module)
        self.optimizer = accelerator.prepare_optimizer(adam)
        self.skipped, self.skipped_now = 0, 0

    def update(
        self, parts: Sequence[Part], terms: Callable[[Part], dict[str, Tensor]], rate: float, step: int
    ) -> dict[str, float]:
        """One update. Returns the terms, means over the rows of all processes, with `lr` and `grad_norm`.

        parts: this process's rows, in parts that fit in memory. terms: of a part, scalars, of which `loss` is differentiated. rate: of
        learning. Where the gradient is not finite no process updates anything. Raises `RunStoppedError` where that happens at 20 updates
        in a row, up to `step`.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for number, part in enumerate(parts, 1):
            weight = len(part) / self.rows
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.model):
                found = terms(part)
                # the processes' gradients are averaged, whichever number of rows each of them has
                self.accelerator.backward(found["loss"] * (weight * self.accelerator.num_processes))
            for name, term in found.items():
                sums[name] = sums.get(name, 0.0) + term.detach() * weight
        means = self.accelerator.reduce(torch.stack(list(sums.values())).float(), "sum").tolist()
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.most_norm)
        self._step(bool(norm.isfinite()), step)
        return {**dict(zip(sums, means, strict=True)), "lr": rate, "grad_norm": float(norm)}

    def _step(self, finite: bool, step: int) -> None:
        if finite:
            self.skipped_now = 0
            self.optimizer.step()
            if self.ema is not None:
                self.ema.step(self.parameters)
            return
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()
        self.skipped, self.skipped_now = self.skipped + 1, self.skipped_now + 1
        if self.skipped_now >= MOST_SKIPPED:
            raise RunStoppedError(
                f"the gradient was not finite in {MOST_SKIPPED} updates in a row, up to step {step}; start anew in "
                "another output_dir with a smaller learning_rate, or with mixed_precision bf16 or no"
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint has of it, `KEYS`; the weights are the caller's."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
            "ema": {} if self.ema is None else self.ema.state_dict(),
            "skipped": self.skipped,
        }

    def go_on(self, content: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.optimizer.load_state_dict(content["optimizer"])
        if self.accelerator.scaler is not None and content["scaler"]:
            self.accelerator.scaler.load_state_dict(content["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(content["ema"])
        self.skipped = content["skipped"]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The module has the averaged weights inside of the block, where there are some."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)
