"""A section of the configuration to the dataclass of its keys."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from ...engine.errors import UsageError

Section = TypeVar("Section")


def read_section(kind: type[Section], name: str, values: Mapping[str, Any]) -> Section:
    """A `kind`, a dataclass, with `values` in place of its defaults; lists become tuples.

    Raises `UsageError`, with the section's `name`, for unknown keys and values of the wrong type.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise UsageError(f"unknown key {name}.{unknown[0]}; known are {', '.join(known)}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except TypeError as error:  # a text where a number should be, a key without a value
        raise UsageError(f"{name}: {error}") from None
