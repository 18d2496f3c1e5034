"""The reader of MosaicML Streaming, for tests."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest


def streaming_reader(name):
    """A class of MosaicML Streaming. Its package imports every cloud's client and transformers as it is opened, so only
    the modules of the reader are, which need none of them."""
    if "streaming" not in sys.modules:
        spec = importlib.util.find_spec("streaming")
        if spec is None:
            pytest.skip("mosaicml-streaming is not installed: `make test` installs it without its dependencies")
        for package in ("streaming", "streaming.base"):
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [str(Path(spec.submodule_search_locations[0], *package.split(".")[1:]))]
    modules = {"LocalDataset": "streaming.base.local", "StreamingDataset": "streaming.base.dataset"}
    return getattr(importlib.import_module(modules[name]), name)
