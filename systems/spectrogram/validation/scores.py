"""The scores of a validation, each beside its target, the same score of held-out real pictures, and that of the baseline."""

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .per_user import DISCRIMINATION, RECOGNISED, REJECTED

CLASSIFICATION, FRECHET, INCEPTION_LIKE = 0.8, 50.0, 2.0  # the targets that the original published
LEAST_DIVERSITY, MOST_COPIES = 0.5, 0.02
NOT_COMPARABLE = (
    "The original's target is for features of Inception and not comparable: these are features of a small network of its own, of "
    "another scale and dimension. Compare with the real pictures beside it."
)
SENSES = {">": operator.gt, "<": operator.lt, "=": operator.eq}


@dataclass(frozen=True)
class Score:
    """value, real and baseline: None where there is none. target: what `value` must be `sense` than, by `source`."""

    name: str
    label: str
    value: float | None
    real: float | None = None
    baseline: float | None = None
    sense: str = ""
    target: float | None = None
    source: str = ""  # "original" or "own"
    note: str = ""

    @property
    def holds(self) -> bool | None:
        if self.value is None or self.target is None:
            return None
        return bool(SENSES[self.sense](self.value, self.target))

    def asdict(self) -> dict[str, Any]:
        return asdict(self) | {"holds": self.holds}


def figure_at(values: Mapping[str, Any], path: str) -> Any:
    """The figure at a path such as `recognition.accuracy` in what `pipeline.measure` returns."""
    found: Any = values
    for key in path.split("."):
        found = found[key]
    return found


def scores_of(sets: dict[str, Any], judge: dict[str, Any], marks: int) -> list[Score]:
    """All scores. sets: of `generated`, `held_out` and `baseline` what `pipeline.measure` returns. judge: what the classifier is worth."""

    def of(label: str, path: str, *rest: Any) -> Score:
        found = [figure_at(sets[name], path) for name in ("generated", "held_out", "baseline")]
        return Score(path, label, *found, *rest)

    original, own = "original", "own"
    return [
        *_of_the_judge(judge),
        of("classified as their user", "recognition.accuracy", ">", CLASSIFICATION, original),
        of("accepted: probability of their user > 0.8", "recognition.accepted"),
        of("one against the rest: user recognised", "per_user.recognised", ">", RECOGNISED, original),
        of("one against the rest: others rejected", "per_user.rejected", ">", REJECTED, original),
        of("one against the rest: discrimination", "per_user.discrimination", ">", DISCRIMINATION, original),
        of("one against the rest: users who reach all three", "per_user.passed"),
        of("metric learning: nearest prototype is the user's", "metric_success"),
        of("Fréchet distance on own features", "frechet", "<", FRECHET, original, NOT_COMPARABLE),
        of(
            "inception-like score on own classifier",
            "inception_like",
            ">",
            INCEPTION_LIKE,
            original,
            "Nor is this one's.",
        ),
        of("diversity within a user, real = 1", "diversity_ratio", ">", LEAST_DIVERSITY, own),
        of("copies of training pictures", "nearest.copies", "<", MOST_COPIES, own),
        of("histogram distance to training pictures", "statistics.histogram_distance"),
        of("spectrum distance to training pictures, dB", "statistics.spectrum_distance"),
        of("Kolmogorov-Smirnov statistic, mean of the measures", "statistics.ks_mean"),
        of("Mahalanobis distance in 50 principal components", "mahalanobis"),
        Score(
            "drawn_marks",
            "marks drawn into the pictures of a user",
            marks,
            None,
            None,
            "=",
            0,
            own,
            "A number in the picture would be read by the classifier.",
        ),
    ]


def _of_the_judge(judge: dict[str, Any]) -> list[Score]:
    return [
        Score(
            "judge.accuracy",
            "classifier: users recognised on held-out real recordings",
            judge["accuracy"],
            None,
            judge["chance"],
            ">",
            CLASSIFICATION,
            "own",
            "Tested before it judges. The baseline is chance.",
        ),
        Score(
            "judge.shuffled_accuracy",
            "control: the same, trained with shuffled users",
            judge["shuffled_accuracy"],
            None,
            judge["chance"],
            "<",
            judge["shuffled_limit"],
            "own",
            "Must be at chance: the limit is three standard errors of as many independent recordings above it.",
        ),
    ]
