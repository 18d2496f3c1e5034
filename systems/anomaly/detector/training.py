"""The detector's training, which goes on where it was stopped."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....engine.errors import UsageError
from ....engine.runtime.atomic import discard
from ....factory.state.run_folder import locked
from ..data.volume import Volume
from ..maps.mapper import Mapper
from ..maps.reader import MapReader
from ..maps.run import OnProgress, write_maps
from . import checkpoint
from .checkpoint import RESULT, STATE
from .examples import Examples
from .losses import NAMES, total_loss, weak_losses
from .network import UNet3D
from .patients import check_disjoint, split_patients
from .settings import DetectorSettings
from .weak_labels import WeakLabels

MAPS = "training_maps"  # the folder of the training volumes' maps
CLIP = 1.0  # the gradients' norm
FLIPPED = (-1, -2, -3)  # axes of (B, 1, D, H, W)
OnEpoch = Callable[[int, int, float], None]
_log = logging.getLogger(__name__)


def train_detector(
    base: Mapper,
    volumes: Sequence[Volume],
    folder: Path,
    settings: DetectorSettings | None = None,
    judged: Sequence[Volume] = (),
    on_progress: OnEpoch | None = None,
    on_maps: OnProgress | None = None,
) -> Path:
    """Train a detector on the maps that `base` makes of these volumes, in the folder, and return its checkpoint.

    Volumes without a label are not used. One in five patients validates: the weights of the epoch with the least loss there are
    kept. judged: the volumes that the detector is to be used on. on_progress: called after each epoch with its number, how many
    there are, and the validation's loss. on_maps: as in `write_maps`, while the maps are made. A volume that cannot be read is left
    out, with a warning.

    A training that was killed goes on after its last epoch, on a processor to the same weights; one that is done is not repeated.
    Raises FoldsError for a patient among `judged` too, VolumeError for an abnormal volume without a label to train with, and
    `UsageError` where the folder holds another training.
    """
    settings = (settings or DetectorSettings()).with_weights(base.side)
    volumes = sorted((one for one in volumes if one.label is not None), key=lambda volume: volume.name)
    split_patients(volumes, settings.seed)  # refuses too few of them before maps are made
    check_disjoint([volume.patient for volume in volumes], judged)
    record = write_maps(folder / MAPS, volumes, base, on_progress=on_maps)
    for failure in record["failures"]:
        _log.warning("left out of the detector's training: %s", failure["reason"])
    labels = WeakLabels(settings.labels, base.side, settings.label_margin)
    with MapReader(folder / MAPS) as maps:
        mapped = [volume for volume in volumes if volume.name in set(maps.names)]
        rows = range(len(mapped))
        examples = Examples(
            np.stack([maps.error(i) for i in rows]),
            np.stack([maps.volume(i) for i in rows]),
            np.stack([labels.region(volume) for volume in mapped]),
        )
    training, validation = split_patients(mapped, settings.seed)
    parts = [examples.take([i for i in rows if mapped[i].patient in some]) for some in (training, validation)]
    identity = {
        "settings": settings.to_dict(),
        "base": json.loads(json.dumps(base.identity())),
        "training_sha256": parts[0].sha256(),
        "validation_sha256": parts[1].sha256(),
        "patients": sorted(training | validation),
    }
    device = torch.device(getattr(base, "device", "cpu"))
    with locked(folder):
        return _Training(folder, identity, settings, parts[0], parts[1], device).run(on_progress)


class _Training:
    """One training and its files."""

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        settings: DetectorSettings,
        training: Examples,
        validation: Examples,
        device: torch.device,
    ) -> None:
        self.folder, self.identity, self.settings, self.device = folder, identity, settings, device
        self.training, self.validation = training, validation
        self.scale = float(training.errors.mean(dtype=np.float64)) or 1.0
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(settings.seed)
            self.network = UNet3D(settings.channels)
        self.network.to(device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}

    def run(self, on_progress: OnEpoch | None) -> Path:
        """Train what is left of the epochs, and return the file of the best one."""
        result, state = self.folder / RESULT, self.folder / STATE
        for path in self.folder.glob(".*.partial-*.ckpt"):
            discard(path)
        if result.exists():
            self._check_same(checkpoint.read(result), result)
        else:
            if state.exists():
                self._restore(checkpoint.read(state), state)
            for epoch in range(len(self.history), self.settings.epochs):
                self._epoch(epoch)
                self._save(state)
                if on_progress is not None:
                    on_progress(epoch + 1, self.settings.epochs, self.history[-1]["validation_loss"])
            about = {"scale": self.scale, "history": self.history, "network": self.best}
            checkpoint.save(result, self.identity | about)
        discard(state)
        return result

    def _epoch(self, epoch: int) -> None:
        """Train one epoch, and keep the weights if they are the best so far. It depends on the seed and the epoch alone."""
        rng = np.random.default_rng((self.settings.seed, epoch))
        order = rng.permutation(len(self.training))
        size, total = self.settings.batch_size, self.settings.epochs
        rate = self.settings.learning_rate * 0.5 * (1 + np.cos(np.pi * epoch / total))
        for group in self.optimizer.param_groups:
            group["lr"] = float(rate)
        self.network.train()
        losses = []
        for start in range(0, len(order), size):
            axes = [axis for axis in FLIPPED if rng.random() < 0.5]
            batch = self.training.batch(order[start : start + size].tolist(), self.device)
            parts = self._losses(*(one.flip(axes) for one in batch))
            loss = total_loss(parts, self.settings)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
            self.optimizer.step()
            losses.append(parts.detach().cpu())
        found = torch.cat(losses, 1)
        checked = self._validate()
        loss_value = float(total_loss(checked, self.settings))
        if not np.isfinite(loss_value):
            raise UsageError(
                f"the validation's loss is {loss_value} in epoch {epoch + 1}: choose a smaller learning rate"
            )
        if not self.history or loss_value < min(one["validation_loss"] for one in self.history):
            self.best = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        self.history.append(
            {
                "epoch": epoch + 1,
                "training_loss": float(total_loss(found, self.settings)),
                "validation_loss": loss_value,
                **{name: float(value) for name, value in zip(NAMES, checked.mean(1), strict=True)},
            }
        )

    @torch.no_grad()
    def _validate(self) -> Tensor:
        self.network.eval()
        size, rows = self.settings.batch_size, range(len(self.validation))
        batches = (self.validation.batch(rows[start : start + size], self.device) for start in rows[::size])
        return torch.cat([self._losses(*batch).cpu() for batch in batches], 1)

    def _losses(self, errors: Tensor, volumes: Tensor, inside: Tensor) -> Tensor:
        logits = self.network(torch.cat([errors / self.scale, volumes], 1))
        return weak_losses(logits, inside, errors, self.settings)

    def _save(self, path: Path) -> None:
        state = {"weights": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        checkpoint.save(path, self.identity | state | {"best": self.best, "history": self.history})

    def _restore(self, contents: dict[str, Any], path: Path) -> None:
        self._check_same(contents, path)
        self.network.load_state_dict(contents["weights"])
        self.optimizer.load_state_dict(contents["optimizer"])
        self.best, self.history = contents["best"], contents["history"]

    def _check_same(self, contents: dict[str, Any], path: Path) -> None:
        changed = [key for key, value in self.identity.items() if contents.get(key) != value]
        if changed:
            raise UsageError(
                f"{path} is of another training: {', '.join(changed)} differ; go on with what it was begun with, or choose "
                "another folder"
            )
