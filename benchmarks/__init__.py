"""Benchmarks: each measures quality and time together, compares all methods in one run, and writes its results as JSON."""
