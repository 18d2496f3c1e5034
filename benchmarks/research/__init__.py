"""Research benchmarks that compare search methods; not part of the wheel, to be run from a clone of the repository."""
