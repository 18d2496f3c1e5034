"""The registry of formats. A new one is one file and one line here; nothing is imported until it is used."""

# name -> module, class, and the name under OUT
FORMATS: dict[str, tuple[str, str, str]] = {
    "hdf5": ("hdf5", "HDF5Exporter", "dataset.h5"),
    "png": ("png", "PNGExporter", "png"),
    "pt": ("pt", "PTExporter", "dataset.pt"),
}
