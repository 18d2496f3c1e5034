"""A folder of generated spectrograms, `ID_{n}/sample_{i:04d}.png`, which can be read as a folder of measured ones."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ....engine.errors import UsageError
from ....engine.losses.metrics import to_uint8
from ....engine.runtime.atomic import atomic_path, write_json
from .spectrogram_folder import INDEX, SCHEMA

RECORD = "generation.json"
Sample = tuple[int, int]  # user and number, from 0 on
OnStep = Callable[[int, int], None]  # samples done, in all


class SampleFolder:
    """The samples of one model and one choice of settings; those that are there already are left as they are.

    identity: what decides a sample, beside user and number, JSON-ready. Raises `UsageError` where the folder has samples of another one.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity
        _check_record(folder / RECORD, identity)
        write_json(folder / RECORD, identity)

    def fill(
        self,
        plan: Sequence[Sample],
        draw: Callable[[Sequence[Sample]], Tensor],
        batch_size: int,
        simulated: bool | None,
        on_step: OnStep | None = None,
    ) -> dict[str, Any]:
        """Save those samples of the plan that are not there yet, then `spectrograms.json` of all that are in the folder.

        draw: makes the pictures (B, 3, H, W) in [−1, 1], on the CPU, of at most batch_size samples. simulated: what the model was trained
        on. Returns the identity with `samples`, how many were asked for, `new`, how many of them were made now, and `simulated`.
        """
        missing = [one for one in plan if not self._path(*one).exists()]
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            for one, picture in zip(batch, draw(batch), strict=True):
                self.save(picture, *one)
            if on_step is not None:
                on_step(len(plan) - len(missing) + start + len(batch), len(plan))
        self._write_index(simulated)
        return {**self.identity, "samples": len(plan), "new": len(missing), "simulated": simulated}

    def save(self, picture: Tensor, user: int, index: int) -> None:
        """picture: (3, H, W) in [−1, 1]. Nothing is drawn into it: what tells users apart must be the network's work."""
        pixels = to_uint8(picture).permute(1, 2, 0)
        with atomic_path(self._path(user, index)) as temporary:
            Image.fromarray(pixels.contiguous().numpy()).save(temporary)

    def _write_index(self, simulated: bool | None) -> None:
        """Each sample is a recording of its own."""
        entries = {}
        for path in sorted(self.folder.glob("ID_*/sample_*.png")):
            user = int(path.parent.name.removeprefix("ID_")) - 1
            entries[f"{path.parent.name}/{path.name}"] = {"user": user, "recording": path.stem, "time": 0.0}
        index = {
            "schema": SCHEMA,
            "simulated": bool(simulated),
            "generated": True,
            "generation": self.identity,
            "spectrograms": entries,
        }
        write_json(self.folder / INDEX, index)

    def _path(self, user: int, index: int) -> Path:
        return self.folder / f"ID_{user + 1}" / f"sample_{index:04d}.png"


def requested(user_ids: Sequence[int] | None, num_users: int, samples_per_user: int) -> list[Sample]:
    """The samples, (user, number) from 0 on. user_ids: the n of the folders, from 1 on; None: all users.

    Raises `UsageError` for a user that does not exist, and where no sample is asked for.
    """
    if samples_per_user < 1:
        raise UsageError(f"expected 1 sample per user at least, found {samples_per_user}")
    if user_ids is None:
        user_ids = range(1, num_users + 1)
    if not user_ids or not all(1 <= one <= num_users for one in user_ids):
        raise UsageError(f"user_ids: expected numbers from 1 to {num_users}, as in ID_1, found {list(user_ids)}")
    return [(user - 1, index) for user in sorted({*user_ids}) for index in range(samples_per_user)]


def _check_record(path: Path, identity: dict[str, Any]) -> None:
    """Raise `UsageError` where the folder holds samples of another model or of other settings."""
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name, value in identity.items() if found[name] != value]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give another output_dir") from error
    if differing:
        raise UsageError(f"{path.parent} holds samples of another {', '.join(differing)}; give another output_dir")
