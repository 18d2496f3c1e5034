"""Repair of a run: damaged shards are made again and damaged outputs are exported again."""

import logging
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.errors import UsageError
from ...exporters.base.destination import foreign_files
from ..attempt import final_status, run_attempt, write_summary
from ..executors.base import ExecutionOptions, make_shards
from ..executors.worker import check_identity, reload_autoencoder
from ..export import export_run
from ..state.run_folder import RunFolder
from .exports import export_fault, may_replace
from .findings import Damage

log = logging.getLogger(__name__)


def repair_run(folder: RunFolder, damage: list[Damage], autoencoder: Autoencoder | None, device: str | None) -> None:
    """Make damaged shards again and export damaged outputs again. The caller holds the run's lock.

    Raises `UsageError` before anything is changed if the pictures of a shard or the autoencoder are not available.
    """
    broken = sorted({one.shard for one in damage if one.shard is not None})
    outputs = {one.export for one in damage if one.export is not None}
    started = time.perf_counter()
    if broken:
        folder.plan.check_inputs(folder.ledger.failed(), broken, content=True)
        if autoencoder is None and folder.record.settings.vae is None:
            raise UsageError(
                f"{folder.out} was made with an autoencoder from memory, {folder.record.vae['name']!r}: to make broken "
                "shards again, call relatent.verify_run(out, repair=True, autoencoder=…)"
            )
        if autoencoder is None:
            autoencoder = reload_autoencoder(folder, device)
        else:
            check_identity(folder, autoencoder)
    with run_attempt(folder, started, time.perf_counter() - started) as seconds:
        if autoencoder is not None and _remake(folder, broken, autoencoder, seconds):
            outputs = set(folder.ledger.exports())  # they contain, or link to, the shards as they were before
        write_summary(folder, seconds)
        begin = time.perf_counter()
        _export(folder, outputs)
        seconds["export"] = time.perf_counter() - begin
        missing = set(folder.record.settings.formats) - set(folder.record.outputs)
        unfinished = folder.unfinished() or (missing and folder.record.counts["done"])
        folder.update(status="interrupted" if unfinished else final_status(folder))


def _remake(folder: RunFolder, broken: list[int], autoencoder: Autoencoder, seconds: dict[str, float]) -> bool:
    """Make the damaged shards again, and return whether the checksum of any of them changed."""
    if not broken:
        return False
    config = folder.record.optimization_config()
    before = folder.ledger.shards()
    folder.ledger.drop(broken)  # dropped first: a kill after this line leaves an unfinished shard, which resume makes
    for path in map(folder.shard_path, broken):
        if path.is_dir() and not path.is_symlink():
            _set_aside(path)
        else:
            path.unlink(missing_ok=True)
    make_shards(folder, broken, autoencoder, config, ExecutionOptions(), seconds)
    after = folder.ledger.shards()
    return any(after[number].sha256 != before[number].sha256 for number in broken)


def _export(folder: RunFolder, paths: set[str]) -> None:
    """Export the outputs at these paths of the ledger again."""
    lines = folder.ledger.exports()
    for path in sorted(paths):
        line, place = lines[path], folder.out / path
        outside = Path(path).is_absolute()
        if outside and not (place.exists() and may_replace(folder, path, line)):
            continue  # moved, deleted or replaced by the user; `relatent export` would write it again
        changed = place.is_dir() and foreign_files(place)
        if changed or (outside and export_fault(place, line) is not None):  # a user may have edited it
            _set_aside(place)
        try:
            export_run(folder, line["format"], place, line.get("single_file"))
        except UsageError as error:  # for example, too little memory for pt; the other outputs are still exported
            log.warning("%s cannot be written again: %s", place, error)


def _set_aside(place: Path) -> None:
    """Rename a file or folder that is not as the run wrote it, and say so."""
    aside = next(name for name in map(place.with_name, _names(place.name)) if not name.exists())
    place.rename(aside)
    log.warning("%s was not as it was written: it is now %s, yours to look at or delete", place, aside)


def _names(name: str) -> Iterator[str]:
    """Yield the candidate names under which something modified is kept."""
    return (f"{name}.damaged-{number}" for number in count(1))
