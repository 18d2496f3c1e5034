"""The whole validation of a folder of generated spectrograms against one of real ones."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....engine.errors import UsageError
from ....engine.runtime.atomic import write_json
from ..data.spectrogram_folder import read_index, read_spectrograms
from ..data.split import split_by_recording
from .baseline import independent_pixels
from .classifier import UserClassifier, recognition, train_classifier
from .diversity import copies, nearest_distances, within_user_diversity
from .drawn_marks import drawn_marks
from .fitting import FitSettings
from .frechet import frechet_by_size, frechet_distance, inception_like_score, sizes_up_to
from .measures import grey_histogram, spectra
from .metric_learning import Prototypes, train_prototypes
from .per_user import PerUserClassifiers
from .pictures import PictureSet, load_pictures, read_generated, read_pixels
from .scores import CLASSIFICATION, scores_of
from .statistics import Described, PictureDistribution, compare, compare_users
from .trained_on import TrainedOn

SCHEMA = "relatent/spectrogram-validation/1"
RESULT = "validation.json"
SPLIT_SEED = 0  # as in the trainings: their held-out recordings are held out here
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationSettings:
    """data_dir: real pictures with their recordings. generated_dir: folders ID_{n} of generated ones, of any of the users."""

    data_dir: Path
    generated_dir: Path
    output_dir: Path
    fit: FitSettings
    held_out: float = 0.2  # of each user's recordings, and as large as in the training of the generator


@dataclass(frozen=True)
class Pictures:
    """What is compared. All but `training` have pictures of the same users."""

    training: PictureSet
    held_out: PictureSet
    generated: PictureSet
    baseline: PictureSet

    def sets(self) -> dict[str, PictureSet]:
        return {"held_out": self.held_out, "generated": self.generated, "baseline": self.baseline}


@dataclass(frozen=True)
class Judges:
    """What was fitted to the training pictures alone."""

    classifier: UserClassifier
    per_user: PerUserClassifiers
    prototypes: Prototypes
    distribution: PictureDistribution
    training: Described


def validate(
    settings: ValidationSettings, on_step: Callable[[str], None] | None = None
) -> tuple[dict[str, Any], Pictures]:
    """Train the validators on real recordings, test them on others, judge the generated pictures, and write OUT/validation.json.

    What was trained in `output_dir` before is used, or goes on, where settings and data are the same. on_step: called with what is done next.
    Returns what the file holds, and the pictures for a page. Raises `UsageError` and `SpectrogramError` in one line.
    """
    tell, begin = on_step or (lambda _: None), time.perf_counter()
    tell("reading pictures")
    pictures, held_out, facts = _read(settings)
    folder, fit = settings.output_dir, settings.fit
    classifier, judge = _tested_classifier(pictures.training, held_out, fit, folder, tell)
    tell("metric learning")
    prototypes = train_prototypes(pictures.training, fit, folder / "metric.safetensors", _epochs("metric", fit, tell))
    judges = _fit_rest(classifier, prototypes, pictures.training)
    tell("judging real and generated pictures")
    sets = {name: measure(part, judges) for name, part in pictures.sets().items()}
    sizes = _compare_sets(sets, pictures, judges, fit.seed)
    tell("looking for marks drawn into pictures")
    marks = _marks(pictures.generated)
    result = facts | {
        "judge": judge,
        "scores": [score.asdict() for score in scores_of(sets, judge, len(marks))],
        "sets": sets,
        "frechet_by_size": sizes,
        "drawn_marks": [mark._asdict() | {"user": f"ID_{mark.user + 1}"} for mark in marks],
        "seconds": time.perf_counter() - begin,
    }
    write_json(folder / RESULT, result)
    return result, pictures


def measure(pictures: PictureSet, judges: Judges) -> dict[str, Any]:
    """What is said of each set alike, JSON-ready. Raises `UsageError` for training pictures."""
    users, grey = pictures.users.numpy(), pictures.grey()
    probabilities, features = judges.classifier.judge(pictures), judges.classifier.features(pictures)
    described = Described.of(grey, users, judges.distribution)
    diversity = within_user_diversity(features, users)
    found = {
        "pictures": len(pictures),
        "recognition": recognition(probabilities, users),
        "inception_like": inception_like_score(probabilities),
        "per_user": judges.per_user.score(features, users),
        "metric_success": judges.prototypes.success(pictures),
        "diversity": float(np.mean([*diversity.values()])) if diversity else None,
        "diversity_by_user": diversity,
        "statistics": compare(judges.training, described),
        "statistics_by_user": compare_users(judges.training, described),
        "mahalanobis": float(described.values["mahalanobis"].mean()),
        "histogram": grey_histogram(grey).tolist(),
        "spectra": {name: profile.tolist() for name, profile in spectra(grey).items()},
    }
    named: dict[str, Any] = _named(found)
    return named


def _read(settings: ValidationSettings) -> tuple[Pictures, PictureSet, dict[str, Any]]:
    """The pictures, all held-out ones, and the facts of the data."""
    fit = settings.fit
    real, index = read_spectrograms(settings.data_dir, fit.num_users), read_index(settings.data_dir)
    train_items, held_items = split_by_recording(real, settings.held_out, SPLIT_SEED)
    generated = load_pictures(read_generated(settings.generated_dir), fit.resolution)
    users = sorted({*generated.users.tolist()})
    if users[-1] >= fit.num_users:
        raise UsageError(f"{settings.generated_dir} has ID_{users[-1] + 1}, beyond --num_users {fit.num_users}")
    training, held_out = (load_pictures(items, fit.resolution) for items in (train_items, held_items))
    known = held_out.pick(np.isin(held_out.users.numpy(), users))
    TrainedOn.of(training).refuse(generated)  # now, not after the trainings
    if len(known) < 4 or len(generated) < 2:
        raise UsageError(f"found {len(known)} held-out and {len(generated)} generated pictures; give at least 4 and 2")
    pictures = Pictures(training, known, generated, independent_pixels(training, users, fit.seed))
    facts = {
        "schema": SCHEMA,
        "simulated": None if index is None else bool(index["simulated"]),
        "simulation": (index or {}).get("simulation"),
        "generation": (read_index(settings.generated_dir) or {}).get("generation"),
        "settings": {name: str(getattr(settings, name)) for name in ("data_dir", "generated_dir")}
        | {"held_out": settings.held_out}
        | asdict(fit),
        "split": "by recording"
        if index is not None
        else "by file: no recordings are known, so all figures are too high",
        "training_recordings": len({*zip(training.users.tolist(), training.recordings, strict=True)}),
        "held_out_recordings": len({*zip(held_out.users.tolist(), held_out.recordings, strict=True)}),
        "counts": {"training": len(training)} | {name: len(part) for name, part in pictures.sets().items()},
        "users": [f"ID_{user + 1}" for user in users],
    }
    return pictures, held_out, facts


def _tested_classifier(
    training: PictureSet, held_out: PictureSet, fit: FitSettings, folder: Path, tell: Callable[[str], None]
) -> tuple[UserClassifier, dict[str, Any]]:
    """The classifier, and what it is worth on real recordings that it has not seen."""
    tell("classifier")
    classifier = train_classifier(
        training, fit, folder / "classifier.safetensors", False, _epochs("classifier", fit, tell)
    )
    tell("control: classifier of shuffled users")
    file = folder / "shuffled_control.safetensors"
    control = train_classifier(training, fit, file, True, _epochs("control", fit, tell))
    users, chance = held_out.users.numpy(), 1.0 / fit.num_users
    recordings = len({*zip(users.tolist(), held_out.recordings, strict=True)})
    judge = {
        "accuracy": recognition(classifier.judge(held_out), users)["accuracy"],
        "shuffled_accuracy": recognition(control.judge(held_out), users)["accuracy"],
        "chance": chance,
        "shuffled_limit": chance + min(3.0 * math.sqrt(chance * (1.0 - chance) / recordings), (1.0 - chance) / 2),
    }
    judge["holds"] = judge["accuracy"] > CLASSIFICATION and judge["shuffled_accuracy"] < judge["shuffled_limit"]
    if not judge["holds"]:
        _log.warning("the classifier does not hold on held-out real recordings, so it is no judge: %s", judge)
    return classifier, judge


def _fit_rest(classifier: UserClassifier, prototypes: Prototypes, training: PictureSet) -> Judges:
    users, grey = training.users.numpy(), training.grey()
    distribution = PictureDistribution(grey)
    per_user = PerUserClassifiers(classifier.features(training), users)
    return Judges(classifier, per_user, prototypes, distribution, Described.of(grey, users, distribution))


def _compare_sets(
    sets: dict[str, dict[str, Any]], pictures: Pictures, judges: Judges, seed: int
) -> list[dict[str, float]]:
    """Add what needs two sets: Fréchet distances at one size, diversity beside the real one, copies. Returns the distances by size."""
    features = {name: judges.classifier.features(part) for name, part in pictures.sets().items()}
    largest = min(len(features["held_out"]) // 2, *(len(values) for values in features.values()))
    sizes = {
        name: frechet_by_size(features["held_out"], features[name], sizes_up_to(largest), seed=seed)
        for name in ("generated", "baseline")
    }
    nearest = {name: nearest_distances(part.grey(), judges.training.grey) for name, part in pictures.sets().items()}
    for name, part in pictures.sets().items():
        own = sets[name]
        last = sizes["baseline" if name == "baseline" else "generated"][-1]
        own["frechet"] = last["real" if name == "held_out" else "generated"]
        own["frechet_size"] = largest
        own["frechet_of_all"] = frechet_distance(features["held_out"], features[name]) if name != "held_out" else None
        real = sets["held_out"]["diversity"]
        own["diversity_ratio"] = own["diversity"] / real if real and own["diversity"] is not None else None
        own["nearest"] = copies(nearest[name][0], nearest["held_out"][0])
        indices = own["nearest"].pop("copied")
        own["nearest"]["copied"] = [[part.names[i], pictures.training.names[nearest[name][1][i]]] for i in indices]
    return [row | {"baseline": other["generated"]} for row, other in zip(*sizes.values(), strict=True)]


def _marks(generated: PictureSet) -> list[Any]:
    """At the files' own size where they have one in common."""
    pixels = [read_pixels(path) for path in generated.paths]
    if len({picture.shape for picture in pixels}) > 1:
        pixels = list(generated.images.permute(0, 2, 3, 1).numpy())
    users = generated.users.numpy()
    return drawn_marks({int(u): np.stack([pixels[i] for i in np.flatnonzero(users == u)]) for u in np.unique(users)})


def _epochs(name: str, fit: FitSettings, tell: Callable[[str], None]) -> Callable[[int, float], None]:
    return lambda epoch, loss: tell(f"{name}: epoch {epoch} of {fit.epochs}, loss {loss:.3f}")


def _named(value: Any) -> Any:
    """Users, which are whole numbers as keys, as their folders are named."""
    if isinstance(value, dict):
        return {f"ID_{key + 1}" if isinstance(key, int) else key: _named(own) for key, own in value.items()}
    return value
