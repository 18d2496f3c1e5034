"""Parser for weighted sums of named functions, such as "mse + 0.1*ssim(window=7, sigma=1.0)"."""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import UsageError

CALLABLE = " (callable)"  # behind the name of a caller's own function, where a configuration is written down


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


def describe(value: str | Callable[..., Any]) -> str:
    """An expression as it is, a function by its module and name: for files."""
    if isinstance(value, str):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}{CALLABLE}"


def check_per_image(found: Any, count: int, what: str, variable: str) -> None:
    """Raise `UsageError` unless `found`, what a caller's function returned for `count` images, is (B,) with a gradient.

    what: how the message begins, the function's name included. variable: what the gradient is with respect to.
    """
    if not isinstance(found, torch.Tensor) or found.shape != (count,):
        shown = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise UsageError(
            f"{what} must return one value per image, shape (B,): for B = {count} found {shown}; "
            "end it with .flatten(1).mean(1)"
        )
    if not found.requires_grad:
        raise UsageError(f"{what} has no gradient with respect to {variable}")


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
