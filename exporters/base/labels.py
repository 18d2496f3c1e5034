"""Class labels: a picture's class is the folder that holds it, classes are sorted, a label is the index among them."""

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ...engine.inputs.sources import SPLITS
from ...engine.records import Record
from .exporter import Header, exporter_class
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


def survey(folder: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes, sorted, and splits, in the run's order, of a `RunFolder`'s plan: those of pictures that fail count too."""
    classes: set[str] = set()
    splits: dict[str, None] = {}
    for row in folder.plan.all_rows():
        classes.add(class_name(row.source.relative, row.source.split))
        splits[row.source.split] = None
    return tuple(sorted(classes)), tuple(splits)


def run_header(folder: Any, name: str) -> Header:
    """A `RunFolder`'s header for one format, with classes and splits where that asks for them."""
    header: Header = folder.header
    if not exporter_class(name).needs_classes:
        return header
    classes, splits = survey(folder)
    return replace(header, classes=classes, splits=splits)
