"""Class labels: the class of an image is the name of its folder, and its label is the index in the sorted classes."""

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ...engine.inputs.sources import SPLITS
from ...engine.records import Record
from .exporter import Header, exporter_class
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


def survey(folder: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sorted classes, and the splits in the run's order, of a `RunFolder`'s plan, including images that
    fail.
    """
    classes: set[str] = set()
    splits: dict[str, None] = {}
    for row in folder.plan.all_rows():
        classes.add(class_name(row.source.relative, row.source.split))
        splits[row.source.split] = None
    return tuple(sorted(classes)), tuple(splits)


def run_header(folder: Any, name: str) -> Header:
    """Return a `RunFolder`'s header for one format, with classes and splits where the format needs them."""
    header: Header = folder.header
    if not exporter_class(name).needs_classes:
        return header
    classes, splits = survey(folder)
    return replace(header, classes=classes, splits=splits)
