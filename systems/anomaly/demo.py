"""The whole way on synthetic vertebrae with the bundled model: volumes, error maps, restoration, figures, pages."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...engine.errors import UsageError
from .bundled import VERTEBRAE, find_checkpoint
from .data.procedural import write_procedural
from .data.volume_folder import read_folder
from .evaluation.run import evaluate_maps, write_evaluation
from .maps.error_mapper import ErrorMapper
from .maps.mapper import Mapper
from .maps.run import write_maps
from .report.page import write_report
from .restoration.mapper import RestorationMapper

SIDE = 64
SETS = {"volumes": 101, "validation": 102}  # seeds, other than those of the model's training
COUNT = 8  # volumes of each set
SMOOTH = 1.0  # voxels, before the figures of voxels


def run_demo(out: Path, count: int = COUNT, on_step: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Make synthetic volumes, their maps by two methods, figures and pages in `out`, or go on with them.

    count: volumes of each set, from 2 on, half of them abnormal. on_step: called with what is done next. Returns paths and figures, JSON-ready. Raises `UsageError` where `out` holds something else.
    """
    if count < 2:
        raise UsageError(f"expected 2 volumes or more, found {count}: one is normal and one abnormal")
    begin, tell = time.perf_counter(), on_step or (lambda _: None)
    tell(f"{len(SETS)} × {count} synthetic vertebrae of {SIDE}³")
    for name, seed in SETS.items():
        if not (out / name / "volumes.json").is_file():
            write_procedural(out / name, count, seed, SIDE)
    checkpoint = find_checkpoint(VERTEBRAE)
    found: dict[str, Any] = {}
    mappers: dict[str, Callable[[], Mapper]] = {
        "error": lambda: ErrorMapper(checkpoint),
        "restoration": lambda: RestorationMapper(checkpoint),
    }
    for method, make in mappers.items():
        tell(f"{method} maps")
        mapper, folder = make(), out / method
        for name in SETS:
            write_maps(folder / name, read_folder(out / name)[0], mapper, synthetic=True)
        result = evaluate_maps(folder / "volumes", folder / "validation", sigma=SMOOTH)
        write_evaluation(result, folder)
        page = write_report(folder / "volumes")
        found[method] = {
            "maps": str(folder / "volumes"),
            "report": str(page),
            "voxels": {key: result["voxels"][key] for key in ("auroc", "auprc", "dice", "oracle_dice")},
            "baselines": result["voxel_baselines"],
        }
    return {"synthetic": True, "volumes": count, "side": SIDE, "methods": found, "seconds": time.perf_counter() - begin}
