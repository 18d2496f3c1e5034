"""Verification that the input pictures and masks still hold what the latents were made from."""

from pathlib import Path

from ..state.run_folder import RunFolder
from .findings import Damage, Findings

REMEDY = "put it back as it was, or optimise again into another OUT"


def examine_inputs(folder: RunFolder, found: Findings) -> None:
    """Read every picture and mask of the plan again, and add to `found` those whose content is not that of the plan.

    What is no damage is noted: a picture that failed has no latents and may change, and one that could not be read when
    the run was planned has no checksum.
    """
    failed, repairable, unknown = folder.ledger.failed(), 0, 0
    checked, changed = 0, list[str]()
    for row, changes in folder.plan.changes(content=True):
        if row.source.name in failed:
            repairable += bool(changes)
        elif row.file.sha256 is None:
            unknown += 1
            continue
        elif changes:
            changed.append(row.source.relative)
            found.damage += [Damage(Path(one.path), one.what, REMEDY) for one in changes]
        checked += 1
    found.inputs = {"checked": checked, "changed": changed}
    if repairable:
        found.notes.append(
            f"pictures that failed, and whose files have changed since: {repairable}; "
            f"`relatent resume {folder.out} --retry-failed` takes them up"
        )
    if unknown:
        found.notes.append(f"pictures that could not be read when the run was planned, and not compared: {unknown}")
