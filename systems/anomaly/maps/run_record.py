"""The run.json of a folder of maps."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....engine.errors import DatasetError
from .header import SCHEMA, MapHeader

RECORD, LEDGER, SHARDS = "run.json", "ledger.jsonl", "shards"
SETTINGS = ("method", "side", "shard_size", "keep_volumes", "identity")  # those that a run goes on with
KEYS = {*SETTINGS, "created", "versions", "synthetic", "volumes", "formats", "seconds"}


def read_record(out: Path) -> dict[str, Any]:
    """The run.json in `out`. Raises `DatasetError` where there is none, and where it is damaged or of another kind of run."""
    path = out / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{out} holds no maps: there is no {RECORD} in it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise DatasetError(f"{path} is not of schema {SCHEMA}: it is no run of maps; choose another folder")
    if missing := sorted(KEYS - record.keys()):
        raise DatasetError(f"{path} is damaged: it lacks {', '.join(missing)}")
    return record


def shard_count(record: dict[str, Any]) -> int:
    """How many shards the run has when it is done."""
    return math.ceil(len(record["volumes"]) / record["shard_size"])


def shard_path(out: Path, number: int) -> Path:
    """Where a shard lies, whether or not it is there yet."""
    return out / SHARDS / f"shard-{number:05d}.h5"


def header_of(record: dict[str, Any]) -> MapHeader:
    """What the run's files say of their maps."""
    return MapHeader(
        record["method"],
        record["identity"],
        record["created"],
        record["synthetic"],
        record["keep_volumes"],
        any(one["mask"] for one in record["volumes"]),
        record["versions"]["relatent"],
    )


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """How two JSON objects differ, as "key was …, now …"."""
    for key in {**old, **new}:
        one, other = old.get(key), new.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield f"{prefix}{key} was {one!r}, now {other!r}"
