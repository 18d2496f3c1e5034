"""HDF5: the shards of a run and `dataset.h5`, in one schema (docs/files.md)."""
