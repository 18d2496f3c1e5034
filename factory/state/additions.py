"""The pictures of the input that a run's plan lacks, to be added at its end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ...engine.inputs.sources import Source
from .plan import Plan


def additions(plan: Plan, sources: Sequence[Source], limit: int | None) -> list[Source]:
    """Return the sources that the plan lacks, under names that no picture of the plan has.

    sources: all pictures of the input. limit: maximum number of pictures per split, those of the plan included. Raises
    `UsageError` if the input lacks pictures of the plan.
    """
    new = plan.missing(sources)
    taken, splits = set[str](), Counter[str]()
    for row in plan.all_rows() if new else ():
        taken.add(row.source.name.casefold())
        splits[row.source.split] += 1
    found = []
    for source in new:
        if limit is None or splits[source.split] < limit:
            splits[source.split] += 1
            found.append(replace(source, name=_free_name(source.name, taken)))
    return found


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number where it is taken, and add it to those taken, which are compared ignoring case."""
    found, number = name, 1
    while found.casefold() in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found.casefold())
    return found
