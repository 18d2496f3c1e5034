"""Benchmarks of spectrograms of walkers."""
