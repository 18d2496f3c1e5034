"""The main job: a folder of pictures in, a dataset of optimised latents out."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..engine.autoencoder import Autoencoder
from ..engine.config import OptimizationConfig
from ..engine.device import describe_device, resolve_precision
from ..engine.discovery import Source, discover
from ..engine.errors import UsageError
from ..engine.images import BACKGROUND, check_fit
from ..engine.latent_report import LatentReport
from ..engine.load import load_autoencoder
from ..engine.masks import Masks
from ..engine.objective import check_loss
from ..engine.presets import resolve_config
from ..engine.progress import Progress
from ..engine.records import Failure, Record, flipped_outcomes
from ..engine.run import ImageRun
from ..engine.version import VERSION
from .exporter import FLIPPED, SCHEMA, check_formats, check_needs, make_exporter
from .labels import run_header
from .run_folder import RunFolder, now
from .statistics import metric_statistics

SHARD_SIZE = 32  # pictures per shard: what an interruption can cost, and the unit of checking


def optimize_directory(
    source: str | Path,
    out: str | Path,
    vae: Any = "sd15",
    *,
    config: OptimizationConfig | None = None,
    preset: str | None = None,
    formats: Sequence[str] = ("hdf5",),
    weights: str | Path | None = None,
    device: str | None = None,
    size: int | None = None,
    fit: str = "crop",
    background: str = BACKGROUND,
    masks: str | Path | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    keep_images: bool = True,
    flip: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Optimise every picture of `source` (image, folder, or text file of paths) and write the formats to `out`.

    vae: what `load_autoencoder` takes. preset: a preset's name, recorded; its settings are used where `config` is left
    out, else `config` was made from it. size: side in pixels, the autoencoder's native size if left out. fit,
    background: see `engine.images`. masks: a folder with a greyscale image per picture, under the same path, white where
    it counts: loss, targets and metrics are of that. batch_size: latents at once; None finds one that fits. limit:
    pictures per split. keep_images: keep the pictures beside the latents (needed by png). flip: optimise each picture
    mirrored left-right too. seed: torch's, recorded.
    Returns the contents of `out/run.json`: status, counts, statistics, failures, outputs, seconds by phase.
    Raises `UsageError` or `WeightsUnavailableError` before any work; a picture that fails is listed, not raised.
    """
    out, names, config = Path(out), check_formats(list(formats)), resolve_config(config or preset)
    check_fit(fit, background)
    for name, value in (("batch_size", batch_size), ("limit", limit), ("size", size)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: expected a whole number of at least 1, found {value}")
    check_needs(names, keep_images, flip, fit)
    given = Masks(masks) if masks is not None else None
    sources = discover(source, limit, exclude=[out, given.folder] if given else [out])
    started = time.perf_counter()
    autoencoder = load_autoencoder(vae, weights=weights, device=device)
    size = size or autoencoder.native_size
    autoencoder.check_size(size)
    check_loss(config.loss_function, (size, size), autoencoder.device)
    settings = {
        "input": str(source),
        "size": size,
        "fit": fit,
        "background": background,
        "masks": None if masks is None else str(masks),
        "limit": limit,
        "keep_images": keep_images,
        "flip": flip,
        "seed": seed,
        "preset": preset,
    }
    folder = RunFolder.create(out, _new_record(settings, config, autoencoder, batch_size, len(sources)))
    folder.record["seconds"]["load_autoencoder"] = round(time.perf_counter() - started, 3)
    run = ImageRun(autoencoder, config, size, fit, background, batch_size, keep_images, flip, given)
    _seed(seed)
    metrics: list[dict[str, float]] = []
    flipped: list[dict[str, float]] = []
    failures: list[Failure] = []
    report = LatentReport()
    try:
        with Progress(len(sources), progress) as bar:
            run.on_progress = bar.within
            _produce(run, sources, folder, bar, metrics, flipped, failures, report)
        begin = time.perf_counter()
        report.decode(autoencoder)
        folder.record["latents"] = report.summary()
        run.seconds["report"] = time.perf_counter() - begin
        folder.record["status"] = "exporting"
        begin = time.perf_counter()
        if metrics:
            folder.record["outputs"] = {name: str(export_run(folder, name)) for name in names}
        run.seconds["export"] = time.perf_counter() - begin
        folder.record["status"] = "done"
    except BaseException as error:
        folder.record["latents"] = report.summary()
        folder.record["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        _finish(folder, run, metrics, flipped, failures, time.perf_counter() - started)
    return folder.record


def export_run(folder: RunFolder, name: str, destination: Path | None = None) -> Path:
    """Write one format from the run's shards. Returns where it is. Raises `UsageError` where nothing is finished."""
    with make_exporter(name, folder.out, run_header(folder, name), destination) as exporter:
        for records in folder.records():
            exporter.write(records)
    return exporter.destination


def _produce(
    run: ImageRun,
    sources: list[Source],
    folder: RunFolder,
    bar: Progress,
    metrics: list[dict[str, float]],
    flipped: list[dict[str, float]],
    failures: list[Failure],
    report: LatentReport,
) -> None:
    waiting: list[Record] = []

    def flush() -> None:
        begin = time.perf_counter()
        if waiting:
            folder.write_shard(waiting)
            flipped.extend(outcome.metrics for outcome in flipped_outcomes(waiting))
            for record in waiting:
                metrics.append(record.metrics)
                report.add(record)
            waiting.clear()
        run.seconds["write"] += time.perf_counter() - begin

    try:
        for outcome in run.batches(sources):
            records = [item for item in outcome if isinstance(item, Record)]
            failed = [item for item in outcome if isinstance(item, Failure)]
            for failure in failed:
                folder.log_failure(failure)
            failures += failed
            waiting += records
            bar.add([record.metrics["psnr_improvement"] for record in records], len(failed))
            if len(waiting) >= SHARD_SIZE:
                flush()
    finally:
        flush()  # an interruption keeps what was finished


def _new_record(
    settings: dict[str, Any],
    config: OptimizationConfig,
    autoencoder: Autoencoder,
    batch_size: int | None,
    total: int,
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "status": "running",
        "created": now(),
        "settings": settings,
        "config": config.to_dict(),
        "vae": autoencoder.identity(),
        "latents_scaled": False,
        "value_range": "[-1, 1]",
        "precision": resolve_precision(config.precision, autoencoder.device),
        "batch_size": batch_size or "auto",
        "hardware": describe_device(autoencoder.device),
        "versions": _versions(),
        "counts": {"total": total, "done": 0, "failed": 0},
        "statistics": {},
        "latents": {},
        "failures": [],
        "outputs": {},
        "seconds": {},
    }


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"relatent": VERSION, "python": platform.python_version()}
    for package in ("torch", "diffusers", "numpy", "h5py", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _seed(seed: int) -> None:
    import torch

    torch.manual_seed(seed)


def _finish(
    folder: RunFolder,
    run: ImageRun,
    metrics: list[dict[str, float]],
    flipped: list[dict[str, float]],
    failures: list[Failure],
    seconds: float,
) -> None:
    record = folder.record
    total = record["counts"]["total"]
    record["counts"] = {"total": total, "done": len(metrics), "failed": len(failures)}
    record["statistics"] = metric_statistics(metrics)
    if flipped:
        record[f"statistics{FLIPPED}"] = metric_statistics(flipped)
    record["failures"] = [failure.to_dict() for failure in failures]
    if run.engine:
        record["engine"] = run.engine
    record["seconds"] |= {phase: round(value, 3) for phase, value in run.seconds.items()} | {"total": round(seconds, 3)}
    folder.save()
