"""Who makes the shards of a run: this process, several on this machine, or a Ray cluster."""
