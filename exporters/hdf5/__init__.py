"""HDF5: the shards of a run and `dataset.h5`, one schema for both (docs/files.md)."""
