"""Tables of scans to prepare: CSV, or a JSON list of objects."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....engine.errors import UsageError
from ....engine.inputs.regular_files import kind_of_file
from .names import LEVELS
from .volume import ABNORMAL, NORMAL

SUFFIXES = (".csv", ".json")
NEEDED, OPTIONAL = ("scan", "mask", "patient"), ("labels", "label")


@dataclass(frozen=True)
class Scan:
    """A scan to prepare, as it was asked for; what is wrong with it shows when it is prepared.

    scan, mask: NIfTI files. labels: a name or file for `read_table`, or its object. label: 0 or 1 for all its volumes, an object such
    as `{"L3": 1}` or that as text, None where nothing is known. folder: what the paths are relative to.
    """

    scan: str
    mask: str
    patient: str
    labels: str | Mapping[str, Any]
    label: Any = None
    folder: Path = Path()

    def known(self) -> int | dict[str, int] | None:
        """What `label` states: of all volumes, by level, or nothing. Raises UsageError for anything else."""
        value = self.label
        if isinstance(value, str):
            try:
                value = json.loads(value) if value.strip() else None
            except (ValueError, RecursionError):
                value = self.label
        values = value.values() if isinstance(value, dict) else [value]
        if isinstance(value, dict) and value.keys() - set(LEVELS):
            raise UsageError(f"label: expected levels from T4 to L5, found {sorted(value.keys() - set(LEVELS))[0]!r}")
        if not all(one is None or (type(one) is int and one in (NORMAL, ABNORMAL)) for one in values):
            raise UsageError(
                f'label: expected 0 (normal), 1 (abnormal) or an object such as {{"L3": 1}}, found {value!r}'
            )
        return value


def read_scans(path: Path, labels: str) -> list[Scan]:
    """The rows of a table with `scan`, `mask`, `patient`, and where they are given `labels` and `label`.

    path: `.csv` with a line of headings, or `.json`. Paths in it are relative to its folder. labels: of rows without their own, a
    name or a path from here. Raises UsageError where the table cannot be read, has no row, or other columns.
    """
    try:
        if kind := kind_of_file(path):
            raise UsageError(f"{path} is {kind}, expected a file")
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(io.StringIO(text), strict=True))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise UsageError(f"{path} is no table of scans: {error}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: expected one row or more, each with {', '.join(NEEDED)}")
    default = labels if not labels.endswith(".json") else str(Path(labels).absolute())
    return [_scan(path, number, row, default) for number, row in enumerate(rows, 1)]


def _scan(path: Path, number: int, row: dict[str, Any], labels: str) -> Scan:
    if unknown := [str(name) for name in row if name not in (*NEEDED, *OPTIONAL)]:
        raise UsageError(
            f"{path}, row {number}: unknown column {unknown[0]}; known are {', '.join((*NEEDED, *OPTIONAL))}"
        )
    values = [row.get(name) for name in NEEDED]
    if not all(isinstance(value, str) and value for value in values):
        raise UsageError(f"{path}, row {number}: expected {', '.join(NEEDED)} as text, found {values}")
    own = row.get("labels") or labels
    if not isinstance(own, str | dict):
        raise UsageError(f"{path}, row {number}: labels is {own!r}; give a table's name, a file or an object")
    return Scan(row["scan"], row["mask"], row["patient"], own, row.get("label"), path.parent)
