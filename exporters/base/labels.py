"""Class labels: the class of an image is the name of its folder, and its label is the index in the sorted classes."""

from pathlib import PurePosixPath

from ...engine.inputs.sources import SPLITS
from ...engine.records import Record
from .names import safe_folder

UNLABELLED = "unlabelled"  # The class of images that lie in no folder other than that of their split.


def class_name(source_path: str, split: str) -> str:
    """Return the last folder of a relative path, without the split's folder: "cat" for "train/cat/1.png"."""
    folders = list(PurePosixPath(source_path).parts[:-1])
    if split in SPLITS and split in folders:
        folders.remove(split)
    return safe_folder(folders[-1]) if folders and folders[-1] != ".." else UNLABELLED


def class_of(record: Record) -> str:
    """Return the class of a finished image."""
    return class_name(record.source_path, record.split)
