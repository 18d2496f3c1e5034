"""Which number a vertebra has in a mask, by the tool that made the mask."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....engine.errors import UsageError
from .names import LEVELS

# number -> level; numbers that are not here are left out: other levels, and parts such as the sacrum
TOTALSEGMENTATOR = {40 - i: level for i, level in enumerate(LEVELS)}  # version 2: 27 is L5, 40 is T4
VERSE = {11 + i: level for i, level in enumerate(LEVELS)}  # VerSe, TPTBox: 11 is T4, 24 is L5
TABLES = {"totalsegmentator": TOTALSEGMENTATOR, "verse": VERSE}


def read_table(table: str | Mapping[str, Any], folder: Path) -> dict[int, str]:
    """A table by its name in `TABLES`, from a JSON file below `folder`, or from an object, both such as `{"1": "T12"}`.

    Raises UsageError for an unknown name, a file that cannot be read, and numbers or levels that do not fit.
    """
    if isinstance(table, str):
        if table in TABLES:
            return TABLES[table]
        if not table.endswith(".json"):
            raise UsageError(f"labels: expected {', '.join(TABLES)} or a file .json, found {table!r}")
        try:
            value = json.loads((folder / table).read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"labels: {folder / table} cannot be read: {error}") from None
    else:
        value = table
    if not isinstance(value, Mapping) or not value:
        raise UsageError('labels: expected an object of numbers and levels, such as {"1": "T12"}')
    for number, level in value.items():
        if not number.isdecimal() or int(number) < 1 or level not in LEVELS:
            raise UsageError(f"labels: expected a number from 1 on and a level from T4 to L5, found {number}: {level}")
    if len(set(value.values())) < len(value):
        raise UsageError("labels: two numbers have the same level: leave one of them")
    return {int(number): level for number, level in value.items()}
