"""The pictures of a study, in a folder of its own: chosen windows of spectrograms, or crops of photographs."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...engine.runtime.atomic import write_json
from ...systems.spectrogram.data.simulate import simulate
from ...systems.spectrogram.data.spectrogram import Spectrogram
from ...systems.spectrogram.data.spectrogram_folder import read_index, read_spectrograms
from ...systems.spectrogram.data.split import split_by_recording
from ...systems.spectrogram.vae.settings import recipe_settings
from ...systems.spectrogram.vae.training import SPLIT_SEED, train_vae
from ...systems.spectrogram.validation.pictures import PictureSet, load_pictures
from .photographs import read_photographs, write_crops
from .settings import StudySettings

HELD_OUT = 0.2  # of each user's recordings


@dataclass(frozen=True)
class Source:
    """Where the pictures of one or more domains are. conditional: whether a diffusion is told the user (the folder ID_{n})."""

    folder: Path
    conditional: bool

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def record(self) -> Path:
        """Written when all pictures are there: which are trained on, which held out, how many users there are."""
        return self.folder / "pictures.json"

    @property
    def classifier(self) -> Path:
        """What the classifier reaches; its weights and their record are beside."""
        return self.folder / "accuracy.json"


def prepare_spectrograms(source: Source, settings: StudySettings, data_dir: Path | None) -> None:
    """Choose windows spread over each recording, simulating users first where no folder is given."""
    data = data_dir or source.folder / "simulated"
    if data_dir is None:
        simulate(data, settings.users, settings.recordings, settings.windows, settings.side)
    items = read_spectrograms(data)
    parts = split_by_recording(items, HELD_OUT, SPLIT_SEED)
    names = []
    for part in parts:
        chosen = _choose(part, settings.windows)
        for item in chosen:
            path = source.pictures / f"ID_{item.user + 1}" / f"{item.path.stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(item.read(settings.side)).save(path)
        names.append([f"ID_{item.user + 1}/{item.path.stem}.png" for item in chosen])
    users = len({item.user for item in items})
    simulated = (read_index(data) or {}).get("simulated")
    _keep(source, names[0], names[1], users, simulated)


def prepare_photographs(source: Source, settings: StudySettings, folder: Path) -> None:
    """Cut crops; photographs to train with have the lower numbers."""
    training, held_out = read_photographs(folder, settings.max_photographs)
    shutil.rmtree(source.pictures, ignore_errors=True)
    first = write_crops(training, source.pictures, settings.side, settings.crops, 1)
    second = write_crops(held_out, source.pictures, settings.side, settings.crops, 1 + len(training))
    _keep(source, first, second, len(training), False)


def train_spectrogram_vae(source: Source, settings: StudySettings, data_dir: Path | None, done: Path) -> None:
    """The VAE of the recipe small, on all windows of the recordings that are trained on."""
    data = data_dir or source.folder / "simulated"
    users = len({item.user for item in read_spectrograms(data)})
    chosen = recipe_settings(
        "small",
        data_dir=str(data),
        output_dir=str(done.parent),
        resolution=settings.side,
        num_users=users,
        max_steps=settings.vae_steps,
        epochs=100_000,
        held_out=HELD_OUT,
    )
    record = train_vae(chosen, lambda line: None)
    write_json(done, {name: record.get(name) for name in ("psnr", "ssim", "latent_std")})


@dataclass(frozen=True)
class Pictures:
    """All pictures of a source by name; `held_out` (N,) bool."""

    set: PictureSet
    held_out: Tensor
    num_users: int
    simulated: bool | None

    @property
    def training(self) -> PictureSet:
        return self.set.pick(~self.held_out)

    @property
    def away(self) -> PictureSet:
        return self.set.pick(self.held_out)


def read_pictures(source: Source, side: int) -> Pictures:
    """What was prepared, those to train with and those held out together, in the order of their names."""
    record = json.loads(source.record.read_text(encoding="utf-8"))
    away = set(record["held_out"])
    names = sorted(record["training"] + record["held_out"])
    items = []
    for name in names:
        path = source.pictures / name
        # crops of one photograph may be told from each other by the classifier's split alone
        recording = path.stem.rpartition("_")[0] if source.conditional else ""
        items.append(Spectrogram(path, int(path.parent.name[3:]) - 1, recording, 0.0))
    held_out = torch.tensor([name in away for name in names])
    return Pictures(load_pictures(items, side), held_out, record["num_users"], record["simulated"])


def _choose(items: list[Spectrogram], windows: int) -> list[Spectrogram]:
    found: dict[tuple[int, str], list[Spectrogram]] = {}
    for item in items:
        found.setdefault((item.user, item.recording), []).append(item)
    chosen = []
    for each in found.values():
        places = np.linspace(0, len(each) - 1, min(windows, len(each))).round().astype(int)
        chosen += [each[place] for place in places]
    return chosen


def _keep(source: Source, training: list[str], held_out: list[str], users: int, simulated: bool | None) -> None:
    content = {"training": training, "held_out": held_out, "num_users": users, "simulated": simulated}
    write_json(source.record, content)
