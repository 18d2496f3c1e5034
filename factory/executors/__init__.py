"""Executors that make the shards of a run: in this process, in several processes on this machine, or on a Ray cluster."""
