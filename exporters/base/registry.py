"""The registry of formats. A new format is one file and one line here; modules are imported when first used."""

# name -> module, class, and the name under OUT
FORMATS: dict[str, tuple[str, str, str]] = {
    "hdf5": ("hdf5.exporter", "HDF5Exporter", "dataset.h5"),
    "png": ("formats.png", "PNGExporter", "png"),
    "pt": ("formats.pt", "PTExporter", "dataset.pt"),
    "hf": ("formats.hf", "HuggingFaceExporter", "hf"),
    "webdataset": ("formats.webdataset", "WebDatasetExporter", "webdataset"),
    "mds": ("formats.mds", "MDSExporter", "mds"),
    "safetensors": ("formats.safetensors", "SafetensorsExporter", "safetensors"),
    "kohya": ("formats.trainers.kohya", "KohyaExporter", "kohya"),
    "ai-toolkit": ("formats.trainers.ai_toolkit", "AIToolkitExporter", "ai-toolkit"),
    "musubi": ("formats.trainers.musubi", "MusubiExporter", "musubi"),
    "simpletuner": ("formats.trainers.simpletuner", "SimpleTunerExporter", "simpletuner"),
    "onetrainer": ("formats.trainers.onetrainer", "OneTrainerExporter", "onetrainer"),
    "comfyui": ("formats.comfyui", "ComfyUIExporter", "comfyui"),
    "lightningdit": ("formats.lightningdit", "LightningDiTExporter", "lightningdit"),
    "repa": ("formats.repa", "REPAExporter", "repa"),
    "mar": ("formats.mar", "MARExporter", "mar"),
    "fast-dit": ("formats.fast_dit", "FastDiTExporter", "fast-dit"),
}
