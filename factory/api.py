"""The main entry points: optimise a folder of pictures into a dataset of latents, and resume such a run."""

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..engine.autoencoders.autoencoder import Autoencoder
from ..engine.autoencoders.loading import load_autoencoder
from ..engine.errors import UsageError
from ..engine.inputs.images import BACKGROUND, COLOUR, check_fit
from ..engine.inputs.masks import Masks
from ..engine.inputs.sizes import Size, as_size, simple_size
from ..engine.inputs.sizing import assign_sizes, make_sizing
from ..engine.inputs.sources import Source, discover_all
from ..engine.inputs.views import run_views
from ..engine.losses.registry import check_loss
from ..engine.optimization.config import OptimizationConfig
from ..engine.optimization.presets import resolve_config
from ..engine.tuning.tuned_encoder import resolve_start
from ..exporters.base.exporter import FORMATS, check_formats, check_needs, exporter_class
from .attempt import final_status, new_record, run_attempt, write_summary
from .background_export import BackgroundExporter
from .executors.base import ExecutionOptions, make_shards
from .executors.worker import reload_autoencoder
from .export import export_run, record_export
from .state.additions import additions
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
    size: int | Size | None = None,
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
    buckets: str | None = None,
    native: bool = False,
    max_pixels: int | None = None,
    add: bool = False,
    colour: str = COLOUR,
) -> dict[str, Any]:
    """Optimise every picture of `source` (image, folder, or text file of paths) and write the formats to `out`.

    If `out` already holds the same run, an unfinished run is resumed, and a finished run is left as it is except that
    missing formats are exported.

    vae: anything `load_autoencoder` accepts. weights: a folder or file with a named autoencoder's weights. device: `cpu`,
        `cuda`, `cuda:1` or `mps`; None: the best there is.
    formats: what is written, by the names of `relatent export --to`.
    config, preset: the optimiser's settings. The preset's name is recorded; its settings are used if `config` is None,
        otherwise `config` is expected to have been made from it.
    size: side of the square targets, or their (width, height), in pixels; None selects the autoencoder's native size.
    buckets: each picture gets the size that a trainer gives it, such as "sd-scripts:512"; see `engine.inputs.buckets`.
    native, max_pixels: each picture keeps its own size, to the nearest whole latent cell, up to so many pixels (2²²).
    fit: how a picture gets that size: `crop` scales it and crops its middle, `pad` scales it and pads it, `none` takes pictures
        of that size alone. background: the colour behind transparency and padding, by name or as "#rrggbb".
    masks: a folder with one greyscale image per picture, under the same relative path. White pixels count, and loss,
        targets and metrics are computed over them.
    batch_size: number of latents optimised at once; None: on CUDA the largest that increases speed, measured at the start; on
        a CPU one at a time.
    limit: maximum number of pictures per split.
    keep_images: store the pictures beside the latents (required by png).
    flip: also optimise each picture mirrored left-right.
    seed: torch's random seed, recorded in run.json.
    shard_size: pictures per shard, which is the work that a killed run repeats; None selects a hundredth of the
        pictures, at least 32 and at most 2048.
    single_file: write a self-contained dataset.h5 instead of a virtual dataset over the shards.
    workers: processes that read and decode pictures. devices: number of GPUs, or `auto` for all. ray: a cluster's address, or
        `auto`. max_failures: the run stops above so many failed pictures. progress: show a bar.
    colour: `srgb` converts each picture from the colour space that its file states; `as-is` leaves colours as stored.
    add: pictures that `source` holds and the run in `out` lacks are added at its end; what is finished stays.

    Returns the contents of `out/run.json`: status, counts, statistics, failures, outputs, seconds by phase. Its status is
    `failed` where every picture kept the encoder's latent, because no iteration improved it.
    Raises `UsageError` or `WeightsUnavailableError` before any work starts. A picture that fails is listed under
    `failures` and does not raise.
    """
    out, config, formats = Path(out), resolve_config(config or preset), check_formats(list(formats))
    execution = ExecutionOptions(workers, devices, ray, max_failures, progress, device)
    sides = as_size(size) if size is not None else (None, None)
    _check_counts(
        batch_size=batch_size, limit=limit, size=sides[0], height=sides[1], shard_size=shard_size, max_pixels=max_pixels
    )
    check_fit(fit, background, colour)
    square = buckets is None and not native and sides[0] == sides[1]
    check_needs(formats, keep_images, flip, fit, square)
    extends = add and (out / "plan.jsonl").exists()
    sources, skipped = _discover(source, None if extends else limit, out, masks)
    named = str(vae) if isinstance(vae, str | Path) else None
    if execution.remote and (named is None or callable(config.loss_function)):
        raise UsageError("devices and ray need an autoencoder and a loss that other processes can load: give names")
    started = time.perf_counter()
    autoencoder = load_autoencoder(vae, weights=weights, device=device)
    loaded = time.perf_counter() - started
    execution.check(autoencoder.device)
    config = dataclasses.replace(config, start=resolve_start(autoencoder, config.start))
    settings = RunSettings(
        input=str(source),
        vae=named if named is None or not Path(named).exists() else str(Path(named).resolve()),
        weights=None if weights is None else str(Path(weights).resolve()),
        device=device,
        size=None if buckets is not None or native else simple_size(size or autoencoder.native_size),
        buckets=buckets,
        native=native,
        max_pixels=max_pixels,
        fit=fit,
        background=background,
        colour=colour,
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
    if settings.size is None and size is not None:
        raise UsageError("size gives every picture one size, and buckets and native each its own: give one of them")
    sources = _sized(sources, settings, autoencoder, out)
    if not extends:
        _check_feasible(settings, config, autoencoder, Counter(source.size for source in sources))
    record = new_record(settings, config, autoencoder, batch_size, len(sources), skipped)
    with locked(out):
        folder = RunFolder.begin(out, record, sources, shard_size, extends)
        if extends:
            _extend(folder, sources, config, autoencoder)
            folder.update(skipped=skipped)
        del sources  # they are in plan.jsonl now; a million sources take a gigabyte of memory
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
    """Resume the run in `out` with its own recorded configuration, and return what `optimize_directory` returns.

    retry_failed: also retry the pictures that failed, with their files as they are now.
    batch_size: latents at once, or `auto`; None: as it is recorded.
    device, workers, devices, ray, max_failures, progress: see `ExecutionOptions`.
    Raises `DatasetError` if `out` holds no run, and `UsageError` if its inputs or its autoencoder have changed.
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
        folder = RunFolder.open(out)  # reopened under the lock: another process may have written to it in between
        settings = folder.record.settings
        if folder.planned:
            folder.check_inputs()
        else:
            sources, skipped = _discover(settings.input, settings.limit, out, settings.masks)
            folder.make_plan(_sized(sources, settings, autoencoder, out), settings.shard_size)
            folder.update(skipped=skipped)
        if retry_failed:
            folder.retry_failed()
        if batch_size is not None:
            folder.update(batch_size=batch_size)
        return _run(folder, autoencoder, folder.record.optimization_config(), execution, started, loaded)


def _extend(folder: RunFolder, sources: Sequence[Source], config: OptimizationConfig, autoencoder: Autoencoder) -> None:
    """Add those of the sources that the run lacks to the end of its plan. The caller holds the run's lock."""
    settings, plan = folder.record.settings, folder.plan
    new = additions(plan, sources, settings.limit)
    sizes = Counter[Size | None]()
    for segment in plan.segments:
        sizes[segment.size] += segment.rows
    if settings.size is None:
        new = _sized(new, settings, autoencoder, folder.out, sizes.most_common(1)[0][0])
    sizes.update(one.size for one in new)
    _check_feasible(settings, config, autoencoder, sizes)
    if new:
        folder.extend_plan(new)


def _run(
    folder: RunFolder,
    autoencoder: Autoencoder,
    config: OptimizationConfig,
    execution: ExecutionOptions,
    started: float,
    loaded: float,
) -> dict[str, Any]:
    """Make the missing shards, then export the missing outputs, and return the contents of run.json.

    started, loaded: see `run_attempt`.
    """
    folder.clean()
    numbers = folder.unfinished()
    if numbers:  # existing outputs become stale, including those exported after the run
        resolve_start(autoencoder, config.start)  # raises now where the run's tuned encoder is gone
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
        folder.update(status=final_status(folder))
    return folder.record.to_json()


def _check_counts(**counts: int | None) -> None:
    """Raise `UsageError` for a count below 1; None means that the count is determined automatically."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UsageError(f"{name}: expected a whole number of at least 1, found {value}")


def _discover(
    source: str | Path, limit: int | None, out: Path, masks: str | Path | None
) -> tuple[list[Source], list[dict[str, Any]]]:
    """Return the pictures of `source`, excluding the run's own folder and the folder of masks, and what was passed over."""
    found = discover_all(source, limit, exclude=[out] if masks is None else [out, Masks(masks).folder])
    return found.sources, [one.to_dict() for one in found.skipped]


def _sized(
    sources: list[Source], settings: RunSettings, autoencoder: Autoencoder, out: Path, usual: Size | None = None
) -> list[Source]:
    """Return the sources with the sizes of their targets where each has its own, in the order of the plan.

    usual: for sources that an existing plan lacks, the size of pictures that cannot be read.
    """
    cell = autoencoder.cell
    sizing = make_sizing(settings.buckets, settings.native, settings.max_pixels, cell)
    if sizing is None or (usual is None and (out / "plan.jsonl").exists()):  # it states the sizes
        return sources
    return assign_sizes(sources, sizing, usual)


def _check_feasible(
    settings: RunSettings, config: OptimizationConfig, autoencoder: Autoencoder, sizes: Counter[Size | None]
) -> None:
    """Raise `UsageError` now, rather than after days, if the run cannot process or export the pictures.

    sizes: the number of pictures of each size; None is the one size of the run.
    """
    sample_bytes = 0
    for own, count in sizes.items():
        size = own or settings.size
        if size is None:
            continue  # a run of several sizes that goes on: it was checked when it began
        width, height = as_size(size)
        autoencoder.check_size(size)
        check_loss(config.loss_function, (3, height, width), autoencoder.device)
        latents = (autoencoder.latent_channels or 4) * width * height // (autoencoder.downscale_factor or 1) ** 2
        # initial and optimised fp32 latents; uint8 pixels
        sample_bytes += count * (
            8 * latents * len(run_views(settings.flip)) + 3 * width * height * settings.keep_images
        )
    for name in settings.formats:
        kind = exporter_class(name)
        kind.check_vae(autoencoder.identity())
        kind.check_capacity(sample_bytes)
