"""Maps of a whole set of volumes: a run that can be killed at any moment and goes on."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....engine.errors import UsageError
from ....engine.records import Failure
from ....engine.runtime.atomic import file_sha256
from ....engine.runtime.device import describe_device
from ....factory.attempt import installed_versions
from ....factory.state.ledger import Shard
from ....factory.state.run_folder import locked
from ..data.errors import VolumeError
from ..data.volume import Volume
from .exports import FORMATS, write_exports
from .map_file import map_file
from .map_row import UNKNOWN, MapRow
from .mapper import Mapper
from .plan import PlannedVolume
from .run_folder import MapRunFolder, new_record
from .run_record import header_of, shard_path

OnProgress = Callable[[int, int, int], None]


def write_maps(
    out: str | Path,
    volumes: Sequence[Volume],
    mapper: Mapper,
    *,
    formats: Sequence[str] = ("hdf5",),
    shard_size: int = 16,
    keep_volumes: bool = True,
    synthetic: bool | None = None,
    single_file: bool = False,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Make the maps of these volumes in the folder `out`, or go on with them, and return what its run.json holds.

    formats: written at the end, by `FORMATS`. shard_size: volumes that are mapped and kept together, all in memory at once.
    keep_volumes: store volumes and reconstructions beside the maps. synthetic: whether the volumes are, None where it is not known.
    single_file: maps.h5 with all data in it, instead of one that refers to the shards. on_progress: called with the numbers of
    volumes done, in all, and failed.

    A volume that cannot be read is a failure in run.json and the ledger, and the rest is done. Raises `UsageError` for what does
    not fit the run that `out` holds, before anything is made.
    """
    out = Path(out)
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"unknown format {unknown[0]!r}; known are {', '.join(FORMATS)}")
    if shard_size < 1:
        raise UsageError(f"shard_size is {shard_size}; give a whole number from 1 on")
    volumes = sorted(volumes, key=lambda volume: volume.name)
    identity = json.loads(json.dumps(mapper.identity()))  # as run.json gives it back
    device = torch.device(getattr(mapper, "device", "cpu"))
    record = new_record(
        mapper.method, mapper.side, identity, describe_device(device), installed_versions(), shard_size=shard_size,
        keep_volumes=keep_volumes, synthetic=synthetic, formats=list(formats),
    )  # fmt: skip
    with locked(out):
        folder = MapRunFolder.begin(out, record, volumes)
        folder.clean()
        started, status = time.perf_counter(), "failed"
        try:
            _make_shards(folder, volumes, mapper, on_progress)
            folder.save(status="exporting")
            outputs = write_exports(out, folder.record, single_file)
            status = "done"
            folder.save(outputs=outputs)
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            _finish(folder, status, time.perf_counter() - started)
    return folder.record


def _make_shards(
    folder: MapRunFolder, volumes: Sequence[Volume], mapper: Mapper, on_progress: OnProgress | None
) -> None:
    size = folder.record["shard_size"]
    todo = folder.unfinished()
    shards = folder.ledger.shards()
    folder.save(status="running")
    for number in [None, *todo]:
        if number is not None:
            shard = _make_shard(folder, number, volumes[number * size : (number + 1) * size], mapper)
            folder.ledger.add_shard(shard)
            shards[number] = shard
        if on_progress is not None:
            done, failed = (sum(counts) for counts in zip((0, 0), *map(_counts, shards.values()), strict=True))
            on_progress(done, len(volumes), failed)


def _counts(shard: Shard) -> tuple[int, int]:
    return shard.images, len(shard.failures)


def _make_shard(folder: MapRunFolder, number: int, volumes: Sequence[Volume], mapper: Mapper) -> Shard:
    """Make one shard from its volumes alone, and publish its file."""
    read: list[tuple[PlannedVolume, np.ndarray, np.ndarray | None]] = []
    failures: list[Failure] = []
    for planned, volume in zip(folder.rows(number), volumes, strict=True):
        try:
            arrays = volume.read(mapper.side), volume.read_mask(mapper.side)
            planned.check_unchanged()
            read.append((planned, *arrays))
        except VolumeError as error:
            failures.append(Failure(planned.name, "", planned.source, "load", str(error)))
    rows: list[MapRow] = []
    for (planned, values, mask), mapped in zip(read, mapper.map([one[1] for one in read]) if read else (), strict=True):
        if not np.isfinite(mapped.error).all() or not np.isfinite(list(mapped.scores.values())).all():
            reason = "its map has values that are NaN or infinite: is the model sound?"
            failures.append(Failure(planned.name, "", planned.source, "map", f"{planned.name}: {reason}"))
            continue
        label = UNKNOWN if planned.label is None else planned.label
        about = planned.name, planned.patient, planned.source, planned.sha256 or "", label, mapped.scores
        rows.append(MapRow(*about, mapped.error, values, mapped.reconstruction, mask))
    path = shard_path(folder.out, number)
    if not rows:
        path.unlink(missing_ok=True)  # of an attempt that the ledger does not have
        return Shard(number, None, None, 0, 0, failures=tuple(failures))
    with map_file(path, header_of(folder.record)) as file:
        for row in rows:
            file.add(row)
    return Shard(number, path.name, file_sha256(path), path.stat().st_size, len(rows), failures=tuple(failures))


def _finish(folder: MapRunFolder, status: str, seconds: float) -> None:
    """Write how the attempt ended into run.json."""
    shards = folder.ledger.shards().values()
    failures = [failure.to_dict() for shard in shards for failure in shard.failures]
    counts = {"total": len(folder.plan), "done": sum(shard.images for shard in shards), "failed": len(failures)}
    total = round(folder.record["seconds"].get("total", 0.0) + seconds, 3)
    folder.save(status=status, counts=counts, failures=failures, seconds={"total": total})
