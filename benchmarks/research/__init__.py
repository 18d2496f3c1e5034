"""Searches that were compared and trials; not in the wheel, run from a clone of the repository."""
