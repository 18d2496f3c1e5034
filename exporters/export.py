"""Formats from a run's shards, without optimising again."""

from pathlib import Path

from .exporter import make_exporter
from .labels import run_header
from .run_folder import RunFolder


def export_run(folder: RunFolder, name: str, destination: Path | None = None) -> Path:
    """Write one format from the run's shards. Returns where it is. Raises `UsageError` where nothing is finished."""
    with make_exporter(name, folder.out, run_header(folder, name), destination) as exporter:
        for records in folder.records():
            exporter.write(records)
    return exporter.destination
