"""The formats other than HDF5, one file each."""
