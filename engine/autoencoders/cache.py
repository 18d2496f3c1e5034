"""What was derived from a decoder and is kept in memory while its weights stay as they are."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Value = TypeVar("Value")


class DecoderCache:
    """Values by kind and key. A key says what its value was made from (shapes, precision, names of rewrites, settings),
    never which object it came from: an object's id can be given to another one.

    Kinds in use: `copies` (rewritten modules), `coordinates`, `low_rank` and `fast_rewrites` (calibrations), `loops`
    (compiled or captured iterations).
    """

    def __init__(self) -> None:
        self._kinds: dict[str, dict[Hashable, Any]] = {}

    def get(self, kind: str, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value under that key, made if it is not there; it then counts as the most recently used."""
        values = self.values(kind)
        if key in values:
            values[key] = values.pop(key)
        else:
            values[key] = make()
        found: Value = values[key]
        return found

    def values(self, kind: str) -> dict[Hashable, Any]:
        """All values of a kind by their keys, the least recently used first; to be changed in place."""
        return self._kinds.setdefault(kind, {})

    def clear(self, kind: str | None = None) -> None:
        """Forget all values of a kind; None: of every kind."""
        if kind is None:
            self._kinds.clear()
        else:
            self._kinds.pop(kind, None)
