"""`relatent verify`: check that every file in a run's folder is still what the run wrote."""

from pathlib import Path
from typing import Any

from ...engine.autoencoders.autoencoder import Autoencoder
from ..state.ledger import Shard
from ..state.run_folder import RunFolder, locked
from .exports import export_fault, link_fault, may_replace
from .findings import Damage, Findings
from .inputs import examine_inputs
from .plan_and_ledger import check_plan_and_ledger
from .sample import decode_sample
from .shards import shard_fault


def verify_run(
    out: str | Path,
    *,
    repair: bool = False,
    autoencoder: Autoencoder | None = None,
    device: str | None = None,
    inputs: bool = False,
) -> dict[str, Any]:
    """Check plan, ledger, every byte of the shards and outputs, and decode a sample of at most eight pictures.

    repair: make damaged shards again from their pictures, export damaged outputs again, and verify once more. What lies
        outside of `out`, where the run has exported something, is replaced only if it states that it is of this run.
    autoencoder: the run's, required only if it was passed as an object in memory.
    device: device to decode and repair on; None uses the run's.
    inputs: read every input picture and mask again too, and report those whose content is not that of the plan.
    Returns a JSON-ready dictionary: `status` of the run, `shards` (`planned`, `finished`, `unfinished`: their numbers),
    `pictures`, `outputs`, `damage` and `repaired` (lists of `file`, `what`, `remedy`), `notes`, `sample` (`decoded`,
    `largest_difference_db`, `not_decoded`: the reason or None), `inputs` (`checked`: their number, `changed`: pictures,
    relative to the input; None without `inputs`). Unfinished work does not count as damage, changed inputs do.
    Raises `DatasetError` if there is no run. With `repair`, raises `UsageError` if another process holds the lock, or
    if the pictures of a damaged shard or the autoencoder are not available; nothing has been changed in that case.
    """
    out = Path(out)
    folder = RunFolder.open(out)
    if not repair:
        return examine(folder, autoencoder, device, inputs).to_dict() | {"repaired": []}
    from .repair import repair_run

    with locked(out):
        folder = RunFolder.open(out)  # reopened under the lock: no other process writes to it now
        folder.clean()
        found = examine(folder, autoencoder, device, inputs)
        before = found.damage
        if any(one.shard is not None or one.export is not None for one in before):
            repair_run(folder, before, autoencoder, device)
            found = examine(folder, autoencoder, device, inputs)
    left = {one.file for one in found.damage}
    return found.to_dict() | {"repaired": [one.to_dict() for one in before if one.file not in left]}


def examine(folder: RunFolder, autoencoder: Autoencoder | None, device: str | None, inputs: bool = False) -> Findings:
    """Run one verification pass over the plan, the ledger, the shards, the sample, the outputs and, if asked, the inputs."""
    found = Findings(folder.record.status)
    fault = check_plan_and_ledger(folder)
    if fault is not None:
        found.damage.append(fault)  # without them there is nothing to compare with
        return found
    if not folder.planned:
        found.notes.append(f"the run stopped before its plan was written: `relatent resume {folder.out}` goes on")
        return found
    sound = _examine_shards(folder, found)
    found.sample, wrong = decode_sample(folder, sound, autoencoder, device)
    for number, what in wrong.items():
        found.damage.append(_broken(folder, number, what))
    found.pictures = sum(shard.images for shard in sound if shard.number not in wrong)
    _examine_exports(folder, found)
    if inputs:
        examine_inputs(folder, found)
    return found


def _examine_shards(folder: RunFolder, found: Findings) -> list[Shard]:
    """Verify all shards, add the results to `found`, and return the undamaged ones that have a file."""
    shards = folder.ledger.shards()
    found.planned, found.unfinished = len(folder.plan), folder.unfinished()
    found.finished = found.planned - len(found.unfinished)
    sound = []
    for shard in shards.values():
        what = shard_fault(folder, shard)
        if what is not None:
            found.damage.append(_broken(folder, shard.number, what))
        elif shard.file is not None:
            sound.append(shard)
    if found.unfinished:
        found.notes.append(
            f"{len(found.unfinished)} of {found.planned} shards are not finished: `relatent resume {folder.out}` goes on"
        )
    known = {folder.shard_path(number).name for number in found.unfinished}
    known |= {shard.file for shard in shards.values() if shard.file is not None}
    for path in sorted((folder.out / "shards").iterdir()) if (folder.out / "shards").is_dir() else ():
        left_over = path.name.startswith(".") and ".partial-" in path.name  # resume removes these temporary files
        if path.name not in known and not left_over:
            found.notes.append(f"{path} is none of the run's; nothing reads it")
    return sound


def _broken(folder: RunFolder, number: int, what: str) -> Damage:
    """Return the damage entry of a shard."""
    remedy = f"`relatent verify {folder.out} --repair` makes it again"
    return Damage(folder.shard_path(number), what, remedy, shard=number)


def _examine_exports(folder: RunFolder, found: Findings) -> None:
    """Verify all outputs in the ledger and add the results to `found`."""
    lines, whole = folder.ledger.exports(), not found.damage
    for path, line in lines.items():
        place = folder.out / path
        if not place.exists() and Path(path).is_absolute():
            found.notes.append(f"{place} is no longer there")
            continue
        found.outputs += 1
        what = export_fault(place, line)
        if what is None and whole:
            what = link_fault(line["format"], place)
            if what is not None and found.unfinished:
                found.notes.append(f"{place} {what}")
                continue
        if what is not None and not may_replace(folder, path, line):
            remedy = f"move it away, and `relatent export {folder.out} --to {line['format']} {path}` writes it again"
            found.damage.append(Damage(place, f"is not what this run wrote there: {what}", remedy))
        elif what is not None:
            remedy = f"`relatent verify {folder.out} --repair` writes it again"
            found.damage.append(Damage(place, what, remedy, export=path))
        elif line["sha256"] is None:
            found.notes.append(f"{place} has no checksums: only that it is there was checked")
    formats = {line["format"] for line in lines.values()}
    for name, output in folder.record.outputs.items():
        if name not in formats:
            found.notes.append(f"{output} is not in the ledger, and was not checked")
