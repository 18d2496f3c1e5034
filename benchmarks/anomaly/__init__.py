"""Benchmarks of anomaly maps: figures of every method, cost of a training step."""
