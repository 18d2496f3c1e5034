"""Statistics, tables and figures that describe a run."""
