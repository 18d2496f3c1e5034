"""The classifier whose features all Fréchet distances of a source are on, and what it reaches on pictures it has not seen."""

import numpy as np
import torch
from torch import Tensor

from ...engine.runtime.atomic import write_json
from ...systems.spectrogram.validation.classifier import UserClassifier, load_classifier, recognition, train_classifier
from ...systems.spectrogram.validation.fitting import FitSettings
from ...systems.spectrogram.validation.frechet import frechet_distance
from ...systems.spectrogram.validation.pictures import PictureSet
from .data import Pictures, Source, read_pictures
from .settings import StudySettings

REPEATS = 5  # draws of real pictures beside real ones


def prepare_classifier(source: Source, settings: StudySettings) -> None:
    """Train it to tell users, or photographs, and the shuffled control beside it; write what both reach."""
    pictures = read_pictures(source, settings.side)
    training, unseen = classifier_parts(source, pictures)
    fit = FitSettings(pictures.num_users, settings.side, settings.classifier_epochs)
    found = {"chance": 1.0 / pictures.num_users, "pictures": {"training": len(training), "unseen": len(unseen)}}
    for name, shuffle in (("classifier", False), ("classifier_shuffled", True)):
        judge = train_classifier(training, fit, source.folder / f"{name}.safetensors", shuffle)
        accuracy = recognition(judge.judge(unseen), unseen.users.numpy())["accuracy"]
        found["shuffled_accuracy" if shuffle else "accuracy"] = accuracy
    write_json(source.classifier, found)


def classifier_parts(source: Source, pictures: Pictures) -> tuple[PictureSet, PictureSet]:
    """What it is trained on, and what its accuracy is measured on: the held-out recordings, or a fifth of each training photograph's crops."""
    training = pictures.training
    if source.conditional:
        return training, pictures.away
    index = torch.tensor([int(name.rpartition("_")[2].removesuffix(".png")) for name in training.names])
    crops = int(index.max()) + 1
    unseen = index >= crops - max(1, crops // 5)
    return training.pick(~unseen), training.pick(unseen)


def read_classifier(source: Source) -> UserClassifier:
    return load_classifier(source.folder / "classifier.safetensors")


def decoded_pictures(images: Tensor, users: Tensor) -> PictureSet:
    """(N, 3, R, R) uint8 as pictures of no recording, with names of their own."""
    names = tuple(f"decoded_{i:06d}" for i in range(len(images)))
    return PictureSet(images, users, ("",) * len(images), names, names, ())


def real_distance(real: np.ndarray, other: np.ndarray, count: int) -> float:
    """The mean Fréchet distance of `count` of the features `real` to `other`, over draws: what samples are held against."""
    random = np.random.default_rng(0)
    draws = (real[random.permutation(len(real))[:count]] for _ in range(REPEATS))
    return float(np.mean([frechet_distance(draw, other) for draw in draws]))
