"""Protection of existing files: an export may replace an older export in the same format, and nothing else."""

import json
import os
from pathlib import Path
from typing import Any

from ...engine.errors import UsageError
from ...engine.runtime.atomic import file_sha256
from ..files.checksums import SUMS, read_sums
from .exporter import SCHEMA

PROVENANCE = "relatent.json"


def check_replaceable(place: Path, name: str) -> None:
    """Raise `UsageError` unless `place` is absent, an empty folder, or an export as `name` with no other files in it.

    name: the format to be written there.
    """
    remedy = "choose another DEST, or move it away"
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise UsageError(f"{place} is no folder, and {name} writes one: {remedy}")
    if not place.exists() or not any(place.iterdir()):
        return
    found = read_provenance(place)
    if found is None:
        raise UsageError(f"{place} holds files that are no export of relatent ({PROVENANCE} is not in it): {remedy}")
    if found["format"] != name:
        raise UsageError(
            f"{place} holds an export as {found['format']}, and another of its own format alone replaces it: {remedy}"
        )
    if foreign := foreign_files(place):
        raise UsageError(f"{place} holds what the export did not write or was changed since, {foreign[0]}: {remedy}")


def foreign_files(folder: Path) -> list[str]:
    """Return the relative names of files, links included, that `SHA256SUMS` does not list or that have changed since.

    Only files that are younger than the checksums are read, since the checksums are written last.
    """
    try:
        listed = {name: digest for digest, name in read_sums(folder)}
        written = (folder / SUMS).stat().st_mtime_ns
    except (OSError, UnicodeDecodeError):
        return [SUMS]
    found = []
    for here, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        for name in (*files, *links):
            path = Path(here, name)
            relative = path.relative_to(folder).as_posix()
            ours = relative == SUMS or (relative in listed and not path.is_symlink())
            if not ours or (path.stat().st_mtime_ns > written and file_sha256(path) != listed.get(relative)):
                found.append(relative)
    return sorted(found)


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """Return the provenance of an export of relatent; None where the folder is none."""
    try:
        found = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA and "format" in found else None
