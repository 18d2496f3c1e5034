"""Validation of JSON objects, by themselves or against dataclasses: known keys and types of values."""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ...engine.errors import DatasetError


def read_fields(kind: type, values: Any, place: str) -> dict[str, Any]:
    """Return the values of the fields of dataclass `kind` in the JSON object `values`, with their JSON types.

    place: what holds the object, for messages. Raises `DatasetError` if `values` is not an object, for keys of a newer
    version, for values of another type, and for missing keys whose field has no default.
    """
    if not isinstance(values, dict):
        raise DatasetError(f"{place} is damaged: expected an object, found {type(values).__name__}")
    hints, known = get_type_hints(kind), {field.name: field for field in fields(kind)}
    if unknown := [key for key in values if key not in known]:
        raise DatasetError(
            f"{place} has keys that this version does not know: {', '.join(unknown)}; "
            "it is of a newer version of relatent: update this one"
        )
    if missing := [name for name, field in known.items() if name not in values and not _has_default(field)]:
        raise DatasetError(f"{place} is damaged: it lacks {', '.join(missing)}")
    for name, value in values.items():
        expected = _json_types(hints[name])
        if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
            raise DatasetError(f"{place} is damaged: {name}: expected {_named(expected)}, found {value!r}")
    return dict(values)


def parse_line(line: bytes) -> Any:
    """Return the value of one line of JSON. Raises `ValueError` for anything else."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON, {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise ValueError("no JSON of ours, nested too deeply") from error


def check_types(values: Any, kinds: Mapping[str, tuple[type, ...]]) -> None:
    """Raise `ValueError` unless `values` is a JSON object that has at least these keys, with values of these types."""
    if not isinstance(values, dict):
        raise ValueError(f"expected an object, found {type(values).__name__}")
    for key, expected in kinds.items():
        if key not in values:
            raise ValueError(f"it lacks {key}")
        if type(values[key]) not in expected:  # exactly: JSON has no subclasses, and True is no number there
            raise ValueError(f"{key}: expected {_named(expected)}, found {reprlib.repr(values[key])}")


def _named(kinds: tuple[type, ...]) -> str:
    """Return the names of these types for a message."""
    return " or ".join("null" if one is type(None) else one.__name__ for one in kinds)


def _has_default(field: "Field[Any]") -> bool:
    """Return whether a field of a dataclass has a default."""
    return field.default is not MISSING or field.default_factory is not MISSING


def _json_types(hint: Any) -> tuple[type, ...]:
    """Return the Python types that JSON values of a field with this annotation have."""
    if isinstance(hint, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _json_types(part))
    kind = get_origin(hint) or hint
    if kind is tuple:
        return (list,)
    return (dict,) if is_dataclass(kind) else (kind,)
