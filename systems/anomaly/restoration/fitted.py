"""Priors fitted to a folder of normal volumes, kept beside a run."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path, file_sha256
from ..data.errors import FoldsError
from ..data.volume import NORMAL, Volume
from ..data.volume_folder import read_folder
from ..model.checkpoint import load_model
from .normality import Normality

FILE = "normality.pt"
MOST = 400  # volumes, evenly spread, that the priors are fitted to


def fitted_normality(out: Path, checkpoint: Path, normal: Path, volumes: Sequence[Volume], side: int) -> Normality:
    """The priors of the normal volumes in the folder `normal`, from `out/normality.pt` where they were fitted before.

    volumes: those that are to be judged. Raises `FoldsError` where a patient is among both, `UsageError` without normal volumes and
    where `out` holds priors of other ones.
    """
    chosen = [volume for volume in read_folder(normal)[0] if volume.label == NORMAL]
    if shared := sorted({volume.patient for volume in chosen} & {volume.patient for volume in volumes}):
        raise FoldsError(f"patient {shared[0]} is in {normal} and among the volumes to be judged: take it out of one")
    if not chosen:
        raise UsageError(f"{normal} has no volume with label 0 (normal): label them in volumes.json")
    chosen = chosen[:: -(-len(chosen) // MOST)]
    made_from = [file_sha256(checkpoint), str(side), *(volume.name for volume in chosen)]
    path, model = out / FILE, load_model(checkpoint)
    if path.is_file():
        kept = torch.load(path, map_location="cpu", weights_only=True)
        if kept.get("made_from") != made_from:
            raise UsageError(f"{path} was fitted to other volumes or for another model: name another folder")
        return Normality.of_state(kept, model)
    fitted = Normality.fit(model, (torch.from_numpy(volume.read(side))[None] for volume in chosen))
    with atomic_path(path) as temporary:
        torch.save(fitted.state() | {"made_from": made_from}, temporary)
    return fitted
