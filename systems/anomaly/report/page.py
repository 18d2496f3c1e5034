"""The HTML page of a set of anomaly maps, one self-contained file."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path
from ....exporters.summaries.pages import animated_webp_uri, render_page, webp_uri
from ..data.volume import ABNORMAL, NORMAL
from ..maps.reader import MapReader
from .colours import Scales, legend
from .histogram import histogram
from .projection import MILLISECONDS, projections
from .slices import PLANES, maximum_place, sheet

REPORT, DEFAULT_SCORE = "report.html", "mean_error"
SHOWN, LISTED = 60, 500  # volumes with pictures, volumes in the table
QUALITY = 75  # of the pictures
SCALE_PERCENTILE = 99.9  # of volumes' and maps' values: the ends of the scales
LABELS = {NORMAL: "normal", ABNORMAL: "abnormal"}


def write_report(maps: str | Path, score: str | None = None) -> Path:
    """Write `report.html` beside the maps, and return its path.

    maps: a run's folder, or its file. score: the one that orders the volumes; if not given, `mean_error`, or the first one. Raises `UsageError` where
    there are no maps, or no such score.
    """
    maps = Path(maps)
    with MapReader(maps) as reader:
        if not len(reader):
            raise UsageError(f"{maps} has no finished map yet: there is nothing to show")
        score = score or next((name for name in reader.scores if name == DEFAULT_SCORE), next(iter(reader.scores)))
        if score not in reader.scores:
            raise UsageError(f"--score {score!r} is none of the maps' scores: {', '.join(reader.scores)}")
        text = _render(reader, score)
    path = (maps if maps.is_dir() else maps.parent) / REPORT
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def _render(maps: MapReader, score: str) -> str:
    order = np.argsort(-np.asarray(maps.scores[score], np.float64), kind="stable")
    groups = picks([int(i) for i in order])
    shown = sorted({i for _, group in groups for i in group})
    scales = _scales(maps, shown)
    labels = np.asarray(maps.labels)
    counts = {"normal": int((labels == NORMAL).sum()), "abnormal": int((labels == ABNORMAL).sum())}
    counts["no label"] = len(maps) - sum(counts.values())
    return render_page(
        __package__,
        "report.html.j2",
        maps={"method": maps.method, "side": maps.side, "synthetic": bool(maps.synthetic), "count": len(maps)},
        counts={kind: count for kind, count in counts.items() if count},
        score=score,
        scores=list(maps.scores),
        planes=list(PLANES),
        scales=scales,
        percentile=SCALE_PERCENTILE,
        legend=webp_uri(legend()),
        histograms=[histogram(name, np.asarray(values), labels) for name, values in maps.scores.items()],
        groups=[(title, [_card(maps, i, scales) for i in group]) for title, group in groups],
        rows=[_facts(maps, int(i)) | {"shown": int(i) in shown} for i in order[:LISTED]],
        provenance=list(flat(maps.identity)),
    )


def picks(order: list[int]) -> list[tuple[str, list[int]]]:
    """Titles and the volumes under them, each at most once. order: all volumes, the highest score first."""
    if len(order) <= SHOWN:
        return [("All volumes, the highest score first", order)]
    third = SHOWN // 3
    middle = (len(order) - third) // 2
    parts = {"Highest": order[:third], "Around the median": order[middle : middle + third], "Lowest": order[-third:]}
    return [(f"{title} {len(part)}", part) for title, part in parts.items()]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names with dots, and the values that are no mappings."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _scales(maps: MapReader, shown: list[int]) -> Scales:
    """`SCALE_PERCENTILE` of the values of the volumes and maps that are shown, of every eighth voxel."""

    def end(read: Callable[[int], np.ndarray]) -> float:
        values = np.concatenate([read(i)[::2, ::2, ::2].ravel() for i in shown])
        return max(float(np.percentile(values, SCALE_PERCENTILE)), 1e-6)

    return Scales(end(maps.volume), end(maps.error))


def _facts(maps: MapReader, i: int) -> dict[str, Any]:
    """The values of a volume's row in the table."""
    label = LABELS.get(int(maps.labels[i]), "no label")
    scores = {name: float(values[i]) for name, values in maps.scores.items()}
    return {"index": i, "name": maps.names[i], "patient": maps.patients[i], "label": label, "scores": scores}


def _card(maps: MapReader, i: int, scales: Scales) -> dict[str, Any]:
    """The facts of a volume, with its pictures."""
    volume, error, mask = maps.volume(i), maps.error(i), maps.mask(i)
    frames = projections(volume, error, scales)
    return _facts(maps, i) | {
        "place": maximum_place(error),
        "masked": mask is not None and bool(mask.any()),
        "sheet": webp_uri(sheet(volume, error, maps.reconstruction(i), mask, scales), QUALITY),
        "still": webp_uri(frames[0], QUALITY),
        "rotating": animated_webp_uri(frames, MILLISECONDS, QUALITY),
    }
