"""Training of the codec: data, the loop, its checkpoints and logs. `run.train` is the entry."""
