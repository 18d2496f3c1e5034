"""Class labels: a picture's class is the folder that holds it, classes are sorted, a label is the index among them."""

from pathlib import PurePosixPath

from ...engine.inputs.sources import SPLITS
from ...engine.records import Record
from .names import safe_folder

UNLABELLED = "unlabelled"  # the class of pictures that lie in no folder but a split's


def class_name(source_path: str, split: str) -> str:
    """The last folder of a relative path, the split's own left out: that of "train/cat/1.png" is "cat"."""
    folders = list(PurePosixPath(source_path).parts[:-1])
    if split in SPLITS and split in folders:
        folders.remove(split)
    return safe_folder(folders[-1]) if folders and folders[-1] != ".." else UNLABELLED


def class_of(record: Record) -> str:
    """Of a finished picture."""
    return class_name(record.source_path, record.split)
