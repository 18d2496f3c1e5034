"""One attempt at a run: its initial record, and the update of run.json however the attempt ends."""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..engine.autoencoders.autoencoder import Autoencoder
from ..engine.optimization.config import OptimizationConfig
from ..engine.runtime.device import describe_device, resolve_precision
from ..engine.version import VERSION
from .state.counters import summarise
from .state.ledger import now
from .state.record import RunRecord
from .state.run_folder import RunFolder
from .state.settings import RunSettings

PACKAGES = ("torch", "diffusers", "numpy", "h5py", "pillow")  # packages whose versions are recorded in run.json


def new_record(
    settings: RunSettings,
    config: OptimizationConfig,
    autoencoder: Autoencoder,
    batch_size: int | None,
    total: int,
    skipped: list[dict[str, Any]],
) -> RunRecord:
    """Return the record of a run that begins now, over `total` pictures.

    batch_size: number of targets optimised at once; None lets the engine choose. skipped: what was passed over
    in the input.
    """
    return RunRecord(
        status="running",
        created=now(),
        settings=settings,
        config=config.to_dict(),
        vae=autoencoder.identity(),
        precision=resolve_precision(config.precision, autoencoder.device),
        batch_size=batch_size or "auto",
        hardware=describe_device(autoencoder.device),
        versions=installed_versions(),
        counts={"total": total, "done": 0, "failed": 0},
        skipped=skipped,
    )


@contextmanager
def run_attempt(folder: RunFolder, started: float, loaded: float) -> Iterator[dict[str, float]]:
    """Context manager around the work of one attempt; run.json is brought up to date however the block ends.

    started: when the attempt began, by `time.perf_counter`. loaded: seconds spent loading the autoencoder. Yields the
    seconds by phase, a dictionary that the block adds to.
    """
    seconds = {"load_autoencoder": loaded}
    try:
        yield seconds
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        folder.update(**summarise(folder), status=status)
        raise
    finally:
        seconds["total"] = time.perf_counter() - started
        folder.update(seconds=_added(folder.record.seconds, seconds))
        folder.save()


def write_summary(folder: RunFolder, seconds: dict[str, float]) -> None:
    """Write counts, statistics and the report on the latents into run.json, before the formats are exported.

    seconds: elapsed time by phase; the phase `report` is added.
    """
    begin = time.perf_counter()
    folder.update(**summarise(folder), status="exporting")
    folder.save()
    seconds["report"] = time.perf_counter() - begin


def final_status(folder: RunFolder) -> str:
    """Return the status of a run that has nothing left to do: failed where not one of its pictures was improved."""
    counts = folder.record.counts
    return "failed" if 0 < counts["done"] == counts.get("fallback") else "done"


def _added(total: dict[str, float], seconds: dict[str, float]) -> dict[str, float]:
    """Return the seconds by phase, summed over earlier attempts and this one."""
    return total | {phase: round(total.get(phase, 0.0) + value, 3) for phase, value in seconds.items()}


def installed_versions() -> dict[str, str]:
    """Return the versions of relatent, Python and the packages that results depend on."""
    found = {"relatent": VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
