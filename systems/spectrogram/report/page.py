"""The HTML page of a validation, one self-contained file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ....engine.runtime.atomic import atomic_path
from ....exporters.summaries.pages import render_page, webp_uri
from ..validation.pictures import PictureSet
from ..validation.pipeline import Pictures
from .charts import Chart, chart, confusion
from .reconstruction import reconstructions

REPORT = "report.html"
SHOWN = 5  # pictures of a user, real and generated each
COPIES = 8  # pairs of a copy and its original
QUALITY = 85
GAP = 2  # pixels between pictures
NAMES = {"held_out": "real, held out", "generated": "generated", "baseline": "independent pixels"}
LEAST_SHARE = 1e-5  # of a bin of the histogram, whose logarithm is drawn


def write_report(result: dict[str, Any], pictures: Pictures, folder: Path, vae_dir: Path | None = None) -> Path:
    """Write `report.html` into the folder, and return its path. result, pictures: as `validate` returns them.

    vae_dir: of a VAE whose reconstructions of held-out pictures are shown too.
    """
    text = render_page(
        __package__,
        "report.html.j2",
        result=result,
        judge=result["judge"],
        names=NAMES,
        scores=result["scores"],
        counted=_counted(result["scores"]),
        users=[_user(name, result, pictures) for name in result["users"]],
        confusions=[
            confusion(NAMES[name], result["sets"][name]["recognition"]["confusion"])
            for name in ("held_out", "generated")
        ],
        charts=_charts(result),
        sizes=result["frechet_by_size"],
        measures=_measures(result),
        copied=_copied(result, pictures),
        rebuilt=None if vae_dir is None else _rebuilt(result, pictures, vae_dir),
        settings=list(_facts(result)),
    )
    path = folder / REPORT
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def strip(pictures: PictureSet) -> np.ndarray:
    """At most `SHOWN` pictures, evenly spread, side by side, (R, W, 3) uint8. pictures: one at least."""
    side = pictures.images.shape[-1]
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(SHOWN, len(pictures))).round().astype(int))
    sheet = np.full((side, len(chosen) * (side + GAP) - GAP, 3), 128, np.uint8)
    for place, index in enumerate(chosen):
        left = place * (side + GAP)
        sheet[:, left : left + side] = pictures.images[int(index)].permute(1, 2, 0).numpy()
    return sheet


def _user(name: str, result: dict[str, Any], pictures: Pictures) -> dict[str, Any]:
    number = int(name.removeprefix("ID_")) - 1
    facts = []
    for kind in ("held_out", "generated"):
        own, pixels = result["sets"][kind], strip(getattr(pictures, kind).of_user(number))
        facts.append(
            {
                "strip": webp_uri(pixels, QUALITY),
                "width": round(100 * pixels.shape[1] / (SHOWN * (pixels.shape[0] + GAP) - GAP), 1),
                "recognised": own["recognition"]["accuracy_by_user"].get(name),
                "diversity": own["diversity_by_user"].get(name),
                "ks": own["statistics_by_user"].get(name, {}).get("ks_mean"),
            }
        )
    return {"name": name, "real": facts[0], "generated": facts[1]}


def _charts(result: dict[str, Any]) -> list[Chart]:
    sets = result["sets"]
    bins = len(sets["generated"]["histogram"])
    grey = (np.arange(bins) + 0.5) / bins

    def logarithm(name: str) -> np.ndarray:
        return np.log10(np.maximum(sets[name]["histogram"], LEAST_SHARE))

    found = [chart("grey values: log₁₀ of the share in a bin", {name: (grey, logarithm(name)) for name in NAMES})]
    for axis, title in (
        ("radial", "spectrum, over the radius"),
        ("time", "spectrum along time"),
        ("doppler", "spectrum along Doppler"),
    ):
        lines = {name: sets[name]["spectra"][axis] for name in NAMES}
        cycles = np.arange(1, len(lines["generated"]) + 1)
        found.append(chart(f"{title}: dB, cycles in a picture", {name: (cycles, y) for name, y in lines.items()}, True))
    return found


def _measures(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per measure: its mean in the training pictures and in each set, and the Kolmogorov-Smirnov statistics."""
    sets = result["sets"]
    return [
        {
            "name": name.replace("_", " ").replace("glcm", "GLCM"),
            "training": means[0],
            "means": [sets[kind]["statistics"]["means"][name][1] for kind in NAMES],
            "ks": [sets[kind]["statistics"]["ks"][name] for kind in NAMES],
        }
        for name, means in sets["generated"]["statistics"]["means"].items()
    ]


def _rebuilt(result: dict[str, Any], pictures: Pictures, vae_dir: Path) -> dict[str, Any]:
    found = reconstructions(vae_dir, pictures.held_out, result["settings"]["held_out"])
    rows = [np.concatenate([_padded(picture) for picture in row], 1) for row in found.pop("shown")]
    return found | {"sheet": webp_uri(np.concatenate(rows, 0)[:-GAP, :-GAP], QUALITY)}


def _padded(picture: np.ndarray) -> np.ndarray:
    return np.pad(picture, ((0, GAP), (0, GAP), (0, 0)), constant_values=128)


def _copied(result: dict[str, Any], pictures: Pictures) -> list[dict[str, str]]:
    found = []
    for generated, original in result["sets"]["generated"]["nearest"]["copied"][:COPIES]:
        parts = [(pictures.generated, generated), (pictures.training, original)]
        both = [part.images[part.names.index(name)].permute(1, 2, 0).numpy() for part, name in parts]
        found.append({"generated": generated, "original": original, "pair": webp_uri(np.concatenate(both, 1), QUALITY)})
    return found


def _counted(scores: list[dict[str, Any]]) -> dict[str, int]:
    verdicts = [score["holds"] for score in scores]
    return {"hold": verdicts.count(True), "fail": verdicts.count(False)}


def _facts(result: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from result["settings"].items()
    generation = result["generation"]
    for name in ("guidance_scale", "num_inference_steps", "seed") if isinstance(generation, dict) else ():
        yield f"generation: {name}", generation.get(name)
    for name in ("split", "training_recordings", "held_out_recordings"):
        yield name.replace("_", " "), result[name]
    yield "seconds", round(result["seconds"], 1)
