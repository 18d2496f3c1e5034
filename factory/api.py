"""The main job: a folder of pictures in, a dataset of optimised latents out."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..engine.autoencoders.autoencoder import Autoencoder
from ..engine.autoencoders.loading import load_autoencoder
from ..engine.errors import UsageError
from ..engine.inputs.images import BACKGROUND, check_fit
from ..engine.inputs.masks import Masks
from ..engine.inputs.sources import discover
from ..engine.losses.registry import check_loss
from ..engine.optimization.config import OptimizationConfig
from ..engine.optimization.presets import resolve_config
from ..engine.runtime.device import describe_device, resolve_precision
from ..engine.version import VERSION
from ..exporters.base.exporter import FORMATS, SCHEMA, check_formats, check_needs
from .background_export import BackgroundExporter
from .executors.base import Execution, make_shards
from .executors.worker import reload_autoencoder
from .export import export_run, record_export
from .state.counters import summarise
from .state.ledger import now
from .state.run_folder import RunFolder, locked


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
    shard_size: int | None = None,
    single_file: bool = False,
    workers: int | None = None,
    devices: int | str | None = None,
    ray: str | None = None,
    max_failures: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Optimise every picture of `source` (image, folder, or text file of paths) and write the formats to `out`.

    Where `out` holds the same run, unfinished, it goes on with it; a finished one is left as it is, but for formats that
    it does not have yet.
    vae: what `load_autoencoder` takes. preset: a preset's name, recorded; its settings are used where `config` is left
    out, else `config` was made from it. size: side in pixels, the autoencoder's native size if left out. fit,
    background: see `engine.images`. masks: a folder with a greyscale image per picture, under the same path, white where
    it counts: loss, targets and metrics are of that. batch_size: latents at once; None finds one that fits. limit:
    pictures per split. keep_images: keep the pictures beside the latents (needed by png). flip: optimise each picture
    mirrored left-right too. seed: torch's, recorded. shard_size: pictures that are finished together, what a killed run
    repeats; None: a hundredth of them, at least 32. single_file: dataset.h5 holds everything itself, instead of pointing to
    the shards. workers, devices, ray, max_failures, progress: see `Execution`.
    Returns the contents of `out/run.json`: status, counts, statistics, failures, outputs, seconds by phase.
    Raises `UsageError` or `WeightsUnavailableError` before any work; a picture that fails is listed, not raised.
    """
    out, names, config = Path(out), check_formats(list(formats)), resolve_config(config or preset)
    execution = Execution(workers, devices, ray, max_failures, progress, device)
    check_fit(fit, background)
    for name, value in (("batch_size", batch_size), ("limit", limit), ("size", size), ("shard_size", shard_size)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: expected a whole number of at least 1, found {value}")
    check_needs(names, keep_images, flip, fit)
    given = Masks(masks) if masks is not None else None
    sources = discover(source, limit, exclude=[out, given.folder] if given else [out])
    named = str(vae) if isinstance(vae, str | Path) else None
    if execution.elsewhere and (named is None or callable(config.loss_function)):
        raise UsageError("devices and ray need an autoencoder and a loss that other processes can load: give names")
    started = time.perf_counter()
    autoencoder = load_autoencoder(vae, weights=weights, device=device)
    loaded = time.perf_counter() - started
    execution.check(autoencoder.device)
    size = size or autoencoder.native_size
    autoencoder.check_size(size)
    check_loss(config.loss_function, (size, size), autoencoder.device)
    if "pt" in names:  # now, not after days
        from ..exporters.formats.pt import check_memory

        latents = (autoencoder.latent_channels or 4) * (size // (autoencoder.downscale_factor or 1)) ** 2
        check_memory(len(sources) * (8 * latents * (1 + flip) + 3 * size**2 * keep_images))
    settings = {
        "input": str(source),
        "vae": named if named is None or not Path(named).is_dir() else str(Path(named).resolve()),
        "weights": None if weights is None else str(Path(weights).resolve()),
        "device": device,
        "size": size,
        "fit": fit,
        "background": background,
        "masks": None if masks is None else str(Path(masks).resolve()),
        "limit": limit,
        "keep_images": keep_images,
        "flip": flip,
        "seed": seed,
        "preset": preset,
        "shard_size": shard_size,
        "formats": names,
        "single_file": single_file,
    }
    record = _new_record(settings, config, autoencoder, batch_size, len(sources))
    with locked(out):
        folder = RunFolder.begin(out, record, sources, shard_size)
        del sources  # the plan has them, on the disk
        return _run(folder, autoencoder, config, execution, started, loaded)


def resume_directory(
    out: str | Path,
    *,
    retry_failed: bool = False,
    device: str | None = None,
    workers: int | None = None,
    devices: int | str | None = None,
    ray: str | None = None,
    max_failures: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Go on with the run in `out`, with its own recorded configuration. Returns what `optimize_directory` returns.

    retry_failed: take up the pictures that failed, too, with their files as they are now. The others: see `Execution`.
    Raises `DatasetError` where there is no run, `UsageError` where its inputs or its autoencoder have changed.
    """
    out = Path(out)
    folder = RunFolder.open(out)
    device = device or folder.record["settings"]["device"]
    execution = Execution(workers, devices, ray, max_failures, progress, device)
    started = time.perf_counter()
    autoencoder = reload_autoencoder(folder, device)
    loaded = time.perf_counter() - started
    execution.check(autoencoder.device)
    with locked(out):
        folder = RunFolder.open(out)  # again: nobody writes to it now
        settings = folder.record["settings"]
        if folder.planned:
            folder.check_inputs()
        else:
            masks = [] if settings["masks"] is None else [Path(settings["masks"])]
            sources = discover(settings["input"], settings["limit"], exclude=[out, *masks])
            folder.make_plan(sources, settings["shard_size"])
        if retry_failed:
            folder.retry_failed()
        config = OptimizationConfig.from_dict(folder.record["config"])
        return _run(folder, autoencoder, config, execution, started, loaded)


def _run(
    folder: RunFolder,
    autoencoder: Autoencoder,
    config: OptimizationConfig,
    execution: Execution,
    started: float,
    loaded: float,
) -> dict[str, Any]:
    """Make the shards that are missing, then the outputs that are."""
    folder.clean()
    record, numbers = folder.record, folder.unfinished()
    settings = record["settings"]
    if numbers:  # whatever outputs there are will be out of date, also those that were exported later
        there = folder.ledger.exports()
        exported = [name for name, (_, _, place) in FORMATS.items() if place in there]
        settings["formats"], record["outputs"] = list(dict.fromkeys([*settings["formats"], *exported])), {}
    missing = [name for name in settings["formats"] if name not in record["outputs"]]
    if not numbers and not missing and record["status"] == "done":
        return record
    with (
        run_attempt(folder, started, loaded) as seconds,
        BackgroundExporter(folder.out, missing if numbers else []) as background,
    ):
        if numbers:
            make_shards(folder, numbers, autoencoder, config, execution, seconds)
        write_summary(folder, seconds)
        begin = time.perf_counter()
        if record["counts"]["done"]:
            written = background.finish()
            for name in missing:
                place = record_export(folder, name) if name in written else export_run(folder, name)
                record["outputs"][name] = str(place)
        seconds["export"] = time.perf_counter() - begin
        record["status"] = "done"
    return record


@contextmanager
def run_attempt(folder: RunFolder, started: float, loaded: float) -> Iterator[dict[str, float]]:
    """Whatever happens in it, run.json then says what is there. Yields the seconds by phase, to be added to.

    started: by `time.perf_counter`; loaded: seconds that loading the autoencoder took."""
    record = folder.record
    seconds: dict[str, float] = {"load_autoencoder": loaded}
    try:
        yield seconds
    except BaseException as error:
        record |= summarise(folder)
        record["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        seconds["total"] = time.perf_counter() - started
        _add_seconds(record, seconds)
        folder.save()


def write_summary(folder: RunFolder, seconds: dict[str, float]) -> None:
    """Counts, statistics and the report on the latents into run.json, before the formats are written."""
    begin = time.perf_counter()
    folder.record |= summarise(folder)
    folder.record["status"] = "exporting"
    folder.save()
    seconds["report"] = time.perf_counter() - begin


def _add_seconds(record: dict[str, Any], seconds: dict[str, float]) -> None:
    """Onto those of earlier attempts."""
    total = record["seconds"]
    for phase, value in seconds.items():
        total[phase] = round(total.get(phase, 0.0) + value, 3)


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
