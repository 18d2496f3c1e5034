"""The files of the command: one JSON per section, replaced whole after each cell, so that a killed run keeps what it had."""

import math
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ...engine.runtime.atomic import write_json
from ..results import stamp
from .section import Cell, Result
from .sections.ceilings import query


class Store:
    """The folder of the results."""

    def __init__(self, folder: Path, device: torch.device, command: str, quick: bool):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.quick = folder, quick
        self.origin = stamp("gpu", device, command)
        self.origin["versions"] |= {"triton": _version("triton"), "cuda": torch.version.cuda}
        if device.type == "cuda":
            self.origin["versions"]["cudnn"] = torch.backends.cudnn.version()
            self.origin["hardware"]["driver"] = (query(("driver_version",)) or {}).get("driver_version")
        self.sections: dict[str, dict[str, Any]] = {}

    def add(self, cell: Cell, result: Result) -> None:
        """Keep the result of a cell, and write its section."""
        self._section(cell.section)["cells"][cell.name] = result
        self._write(cell.section)

    def skip(self, section: str, name: str, why: str) -> None:
        """Keep the reason why a cell was not measured, and write its section."""
        self._section(section)["skipped"][name] = why
        self._write(section)

    def summary(self, **more: Any) -> dict[str, Any]:
        """Write and return the summary: what was measured, what was skipped, what failed."""
        found: dict[str, Any] = {"quick": self.quick, **more, "measured": {}, "skipped": {}, "errors": {}}
        for name, section in self.sections.items():
            found["measured"][name] = [cell for cell, result in section["cells"].items() if "error" not in result]
            found["skipped"] |= {f"{name}: {cell}": why for cell, why in section["skipped"].items()}
            errors = {cell: result["error"] for cell, result in section["cells"].items() if "error" in result}
            found["errors"] |= {f"{name}: {cell}": why for cell, why in errors.items()}
        self._replace("summary", found)
        return found

    def _section(self, name: str) -> dict[str, Any]:
        return self.sections.setdefault(name, {"section": name, "quick": self.quick, "cells": {}, "skipped": {}})

    def _write(self, name: str) -> None:
        self._replace(name, self.sections[name])

    def _replace(self, name: str, content: dict[str, Any]) -> None:
        write_json(self.folder / f"{name}.json", _finite(self.origin | content))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _finite(value: Any) -> Any:
    """Return a JSON value with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
