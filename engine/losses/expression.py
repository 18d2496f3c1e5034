"""Parser for weighted sums of named functions, such as "mse + 0.1*ssim(window=7, sigma=1.0)"."""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError


@dataclass(frozen=True)
class Term:
    """One summand: weight · name(parameters)."""

    weight: float
    name: str
    parameters: dict[str, Any]  # Only the parameters that were given, converted to the types of their defaults.


_TERM = re.compile(
    r"\s*(?:(?P<weight>[0-9.]+(?:e[+-]?[0-9]+)?)\s*\*\s*)?(?P<name>[a-z_][a-z_0-9]*)\s*(?:\((?P<inside>[^()]*)\))?\s*",
    re.IGNORECASE,
)


def parse(expression: str, registry: Mapping[str, Callable[..., Any]], field: str) -> list[Term]:
    """Return the terms of `expression`, whose names are keys of `registry`.

    The parameters of a function are its keyword-only arguments; their defaults determine the types. field: the name of
    the configuration field, used in error messages. Raises `UsageError` for text that is not such a sum.
    """
    text, terms, position = str(expression), [], 0
    while True:
        match = _TERM.match(text, position)
        end = match.end() if match else position
        if match is None or match["name"] not in registry or (end < len(text) and text[end] != "+"):
            example = "a weighted sum such as 'a + 0.1*b(parameter=1)'"
            raise UsageError(
                f"{field}: cannot read {text[position:].strip()!r} in {text!r}; "
                f"expected a name or {example}, of {', '.join(registry)}"
            )
        name = match["name"]
        parameters = _parameters(match["inside"], name, registry[name], field)
        terms.append(Term(_weight(match["weight"], text, field), name, parameters))
        if end == len(text):
            return terms
        position = end + 1


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters that an expression may set on `function`, with their default values."""
    found = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in found if each.kind is each.KEYWORD_ONLY}


def _weight(text: str | None, expression: str, field: str) -> float:
    try:
        weight = 1.0 if text is None else float(text)
    except ValueError:
        weight = 0.0
    if not 0.0 < weight < math.inf:
        raise UsageError(f"{field}: the weight {text!r} in {expression!r} must be a number above 0")
    return weight


def _parameters(inside: str | None, name: str, function: Callable[..., Any], field: str) -> dict[str, Any]:
    known, found = defaults(function), {}
    for text in (inside or "").split(",") if (inside or "").strip() else ():
        key, _, value = (part.strip() for part in text.partition("="))
        if key not in known:
            there = ", ".join(f"{k}={v}" for k, v in known.items())
            raise UsageError(
                f"{field}: {name} has no parameter {key!r}; {f'it has {there}' if there else 'it has none'}"
            )
        found[key] = _value(value, known[key], f"{field}: {name}({key}=…)")
    return found


def _value(text: str, default: Any, what: str) -> Any:
    if isinstance(default, str):
        return text
    kind, wanted = (int, "a whole number above 0") if isinstance(default, int) else (float, "a number above 0")
    try:
        value = kind(text)
    except ValueError:
        value = kind(0)
    if not 0 < value < math.inf:
        raise UsageError(f"{what}: expected {wanted}, found {text!r}")
    return value
