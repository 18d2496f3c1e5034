"""The registry of formats. A new one is one file and one line here; nothing is imported until it is used."""

# name -> module, class, and the name under OUT
FORMATS: dict[str, tuple[str, str, str]] = {
    "hdf5": ("hdf5", "HDF5Exporter", "dataset.h5"),
    "png": ("png", "PNGExporter", "png"),
    "pt": ("pt", "PTExporter", "dataset.pt"),
    "hf": ("hf", "HuggingFaceExporter", "hf"),
    "webdataset": ("webdataset", "WebDatasetExporter", "webdataset"),
    "mds": ("mds", "MDSExporter", "mds"),
    "safetensors": ("safetensors", "SafetensorsExporter", "safetensors"),
    "kohya": ("kohya", "KohyaExporter", "kohya"),
    "ai-toolkit": ("ai_toolkit", "AIToolkitExporter", "ai-toolkit"),
    "lightningdit": ("lightningdit", "LightningDiTExporter", "lightningdit"),
    "repa": ("repa", "REPAExporter", "repa"),
    "mar": ("mar", "MARExporter", "mar"),
    "fast-dit": ("fast_dit", "FastDiTExporter", "fast-dit"),
}
