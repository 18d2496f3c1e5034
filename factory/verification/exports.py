"""Verification of a run's exported outputs against their checksums."""

from pathlib import Path
from typing import Any

from ...engine.runtime.atomic import file_sha256
from ...exporters.base.exporter import FORMATS, exporter_class
from ...exporters.files.checksums import SUMS, read_sums
from ..state.run_folder import RunFolder


def export_fault(place: Path, line: dict[str, Any]) -> str | None:
    """Return what is wrong with the output at `place`; None if nothing is. line: its line in the ledger."""
    if not place.exists():
        return "is missing"
    if place.is_dir():
        if line["sha256"] is None:
            return None
        return _folder_fault(place, line)
    if line["sha256"] is None:
        return "is a file, was a folder"
    if place.stat().st_size != line["bytes"]:
        return f"holds {place.stat().st_size} bytes, {line['bytes']} when it was written"
    if file_sha256(place) != line["sha256"]:
        return "its bytes have changed (SHA-256 differs)"
    return None


def may_replace(folder: RunFolder, path: str, line: dict[str, Any]) -> bool:
    """Return whether the output at `path` of the ledger is the run's to replace: it lies in OUT or, outside, where anybody may
    have put something else, states that it is of this run. line: its line in the ledger."""
    if not Path(path).is_absolute():
        return True
    return line["format"] in FORMATS and exporter_class(line["format"]).run_began(Path(path)) == folder.record.created


def link_fault(name: str, place: Path) -> str | None:
    """Return what is wrong with the links of an output of the format `name` to the shards; None if nothing is."""
    return exporter_class(name).verify_links(place) if name in FORMATS else None


def _folder_fault(place: Path, line: dict[str, Any]) -> str | None:
    """Return what is wrong with an exported folder, checked against its SHA256SUMS; None if nothing is."""
    sums = place / SUMS
    if not sums.is_file() or file_sha256(sums) != line["sha256"]:
        return f"its {SUMS} is missing or has changed"
    for digest, name in read_sums(place):
        path = place / name
        if not path.is_file():
            return f"{name} is missing"
        if file_sha256(path) != digest:
            return f"{name} has changed (SHA-256 differs)"
    return None
