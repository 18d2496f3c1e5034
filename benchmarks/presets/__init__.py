"""The presets on the front of whole calls; see `python -m relatent.benchmarks.presets --help`."""
