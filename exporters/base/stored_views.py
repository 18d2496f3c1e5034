"""Detection of the views that a dataset holds, by the names of its columns."""

from collections.abc import Container

from ...engine.inputs.views import VIEWS, View


def stored_views(columns: Container[str], column: str = "optimized_latents") -> list[View]:
    """Return the views whose `column` is among the `columns`, the plain view first."""
    return [view for view in VIEWS.values() if f"{column}{view.suffix}" in columns]
