"""Tables as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; "" without rows."""
    lines = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    if not lines:
        return ""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [list(heading), ["---"] * len(heading), *lines])
