"""The main job: a folder of pictures in, a dataset of optimised latents out."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..engine.autoencoders.autoencoder import Autoencoder
from ..engine.autoencoders.loading import load_autoencoder
from ..engine.errors import UsageError
from ..engine.inputs.images import BACKGROUND, check_fit
from ..engine.inputs.masks import Masks
from ..engine.inputs.sources import Source, discover
from ..engine.inputs.views import run_views
from ..engine.losses.registry import check_loss
from ..engine.optimization.config import OptimizationConfig
from ..engine.optimization.presets import resolve_config
from ..exporters.base.exporter import FORMATS, check_formats, check_needs, exporter_class
from .attempt import new_record, run_attempt, write_summary
from .background_export import BackgroundExporter
from .executors.base import ExecutionOptions, make_shards
from .executors.worker import reload_autoencoder
from .export import export_run, record_export
from .state.run_folder import RunFolder, locked
from .state.settings import RunSettings


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
    the shards. workers, devices, ray, max_failures, progress: see `ExecutionOptions`.
    Returns the contents of `out/run.json`: status, counts, statistics, failures, outputs, seconds by phase.
    Raises `UsageError` or `WeightsUnavailableError` before any work; a picture that fails is listed, not raised.
    """
    out, config, formats = Path(out), resolve_config(config or preset), check_formats(list(formats))
    execution = ExecutionOptions(workers, devices, ray, max_failures, progress, device)
    _check_counts(batch_size=batch_size, limit=limit, size=size, shard_size=shard_size)
    check_fit(fit, background)
    check_needs(formats, keep_images, flip, fit)
    sources = _discover(source, limit, out, masks)
    named = str(vae) if isinstance(vae, str | Path) else None
    if execution.remote and (named is None or callable(config.loss_function)):
        raise UsageError("devices and ray need an autoencoder and a loss that other processes can load: give names")
    started = time.perf_counter()
    autoencoder = load_autoencoder(vae, weights=weights, device=device)
    loaded = time.perf_counter() - started
    execution.check(autoencoder.device)
    settings = RunSettings(
        input=str(source),
        vae=named if named is None or not Path(named).is_dir() else str(Path(named).resolve()),
        weights=None if weights is None else str(Path(weights).resolve()),
        device=device,
        size=size or autoencoder.native_size,
        fit=fit,
        background=background,
        masks=None if masks is None else str(Path(masks).resolve()),
        limit=limit,
        keep_images=keep_images,
        flip=flip,
        seed=seed,
        preset=preset,
        shard_size=shard_size,
        formats=tuple(formats),
        single_file=single_file,
    )
    _check_feasible(settings, config, autoencoder, len(sources))
    record = new_record(settings, config, autoencoder, batch_size, len(sources))
    with locked(out):
        folder = RunFolder.begin(out, record, sources, shard_size)
        del sources  # the plan on the disk has them; a million take a gigabyte
        return _run(folder, autoencoder, config, execution, started, loaded)


def resume_directory(
    out: str | Path,
    *,
    retry_failed: bool = False,
    batch_size: int | str | None = None,
    device: str | None = None,
    workers: int | None = None,
    devices: int | str | None = None,
    ray: str | None = None,
    max_failures: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Go on with the run in `out`, with its own recorded configuration. Returns what `optimize_directory` returns.

    retry_failed: take up the pictures that failed, too, with their files as they are now. batch_size: latents at once, or
    `auto`; None: as it is recorded. The others: see `ExecutionOptions`.
    Raises `DatasetError` where there is no run, `UsageError` where its inputs or its autoencoder have changed.
    """
    out = Path(out)
    folder = RunFolder.open(out)
    device = device or folder.record.settings.device
    execution = ExecutionOptions(workers, devices, ray, max_failures, progress, device)
    started = time.perf_counter()
    autoencoder = reload_autoencoder(folder, device)
    loaded = time.perf_counter() - started
    execution.check(autoencoder.device)
    with locked(out):
        folder = RunFolder.open(out)  # again: another process may have written to it before this one had the lock
        settings = folder.record.settings
        if folder.planned:
            folder.check_inputs()
        else:
            folder.make_plan(_discover(settings.input, settings.limit, out, settings.masks), settings.shard_size)
        if retry_failed:
            folder.retry_failed()
        if batch_size is not None:
            folder.update(batch_size=batch_size)
        return _run(folder, autoencoder, folder.record.optimization_config(), execution, started, loaded)


def _run(
    folder: RunFolder,
    autoencoder: Autoencoder,
    config: OptimizationConfig,
    execution: ExecutionOptions,
    started: float,
    loaded: float,
) -> dict[str, Any]:
    """Make the shards that are missing, then the outputs that are; return the contents of run.json.

    started, loaded: see `run_attempt`.
    """
    folder.clean()
    numbers = folder.unfinished()
    if numbers:  # outputs that are there will be out of date, also those that were exported after the run
        exports = folder.ledger.exports()
        folder.add_formats([name for name, (_, _, place) in FORMATS.items() if place in exports])
        folder.update(outputs={})
    missing = [name for name in folder.record.settings.formats if name not in folder.record.outputs]
    if not numbers and not missing and folder.record.status == "done":
        return folder.record.to_json()
    with (
        run_attempt(folder, started, loaded) as seconds,
        BackgroundExporter(folder.out, missing if numbers else []) as background,
    ):
        if numbers:
            make_shards(folder, numbers, autoencoder, config, execution, seconds)
        write_summary(folder, seconds)
        begin = time.perf_counter()
        if folder.record.counts["done"]:
            written = background.finish()
            for name in missing:
                place = record_export(folder, name) if name in written else export_run(folder, name)
                folder.update(outputs=folder.record.outputs | {name: str(place)})
        seconds["export"] = time.perf_counter() - begin
        folder.update(status="done")
    return folder.record.to_json()


def _check_counts(**counts: int | None) -> None:
    """Raise `UsageError` for a count below 1; None is a count that is left to be found out."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UsageError(f"{name}: expected a whole number of at least 1, found {value}")


def _discover(source: str | Path, limit: int | None, out: Path, masks: str | Path | None) -> list[Source]:
    """The pictures of `source`, without those in the run's own folder and among its masks."""
    return discover(source, limit, exclude=[out] if masks is None else [out, Masks(masks).folder])


def _check_feasible(settings: RunSettings, config: OptimizationConfig, autoencoder: Autoencoder, total: int) -> None:
    """Raise `UsageError` now, rather than after days, for what this run of `total` pictures could not do."""
    size = settings.size
    autoencoder.check_size(size)
    check_loss(config.loss_function, (3, size, size), autoencoder.device)
    latents = (autoencoder.latent_channels or 4) * (size // (autoencoder.downscale_factor or 1)) ** 2
    sample_bytes = (
        8 * latents * len(run_views(settings.flip)) + 3 * size**2 * settings.keep_images
    )  # initial, optimised; uint8
    for name in settings.formats:
        exporter_class(name).check_capacity(total * sample_bytes)
