"""The evaluation of maps that exist, and its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path, write_json
from ..maps.reader import MapReader
from .calibration import Calibration, calibrate
from .evaluate import check_settings, evaluate
from .tables import markdown_tables

RESULT, TABLE = "evaluation.json", "table.md"


def evaluate_maps(
    maps: str | Path,
    validation: str | Path | None = None,
    score: str | None = None,
    sigma: float = 0.0,
    without: Calibration | None = None,
) -> dict[str, Any]:
    """What `evaluate` says of a run's maps, with thresholds from the maps of a validation set.

    without: the thresholds, or the reason why there are none, where no validation set is given. Raises `UsageError` where the two sets
    share a patient or a volume, or were not made in the same way.
    """
    with MapReader(Path(maps)) as reader:
        check_settings(reader, score, sigma)
        if validation is None:
            return evaluate(reader, without or Calibration("no validation set; give --validation MAPS"), score, sigma)
        with MapReader(Path(validation)) as other:
            check_validation(reader, other)
            masks = any(reader.mask(i) is not None for i in range(len(reader)))
            calibration = calibrate(other, f"the {len(other)} volumes of {validation}", sigma, masks)
            alike = len(set(reader.source_sha256) & set(other.source_sha256) - {""})
        result = evaluate(reader, calibration, score, sigma)
        if alike:
            result["notes"].append(f"{alike} volumes have the same content as others of the validation set")
        return result


def check_validation(maps: MapReader, validation: MapReader) -> None:
    """Raise `UsageError` where thresholds from `validation` would say nothing of `maps`, or would have seen them."""
    if shared := sorted(set(maps.patients) & set(validation.patients) | set(maps.names) & set(validation.names)):
        raise UsageError(
            f"{shared[0]} is in the maps and in those for validation: thresholds must not come from what they are tried on"
        )
    if maps.identity != validation.identity or maps.side != validation.side:
        raise UsageError("the maps for validation were made by another model or with other settings: make both alike")


def write_evaluation(result: Mapping[str, Any], folder: Path) -> None:
    """Write `evaluation.json` and `table.md`."""
    write_json(folder / RESULT, result)
    with atomic_path(folder / TABLE) as temporary:
        temporary.write_text(markdown_tables(result), encoding="utf-8", errors="backslashreplace")
