"""Executors that make the shards of a run: in this process, in several on this machine, or on a Ray cluster."""
