"""The metadata of a picture that formats store beside its latents."""

from typing import Any

from ...engine.records import Outcome, Record


def sample_metadata(record: Record) -> dict[str, Any]:
    """Return the metadata of a picture, JSON-ready; metrics of further views are nested under the name of the view."""
    found = {
        "name": record.name,
        "source_path": record.source_path,
        "split": record.split,
        "original_size": list(record.original_size),
        "conversions": list(record.conversions),
        "caption": record.caption,
        **outcome_metadata(record),
    }
    return found | {view.name: outcome_metadata(outcome) for view, outcome in record.all_views()[1:]}


def outcome_metadata(outcome: Outcome) -> dict[str, Any]:
    """Return the metrics of an outcome, and how its iterations ended."""
    return {
        "metrics": dict(outcome.metrics),
        "iterations": len(outcome.losses),
        "convergence_iteration": outcome.convergence_iteration,
        "stop_reason": outcome.stop_reason,
    }
