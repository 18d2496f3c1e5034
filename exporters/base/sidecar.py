"""Base class of latent caches that a trainer expects beside its pictures: the same folders, with derived file names."""

from abc import abstractmethod
from pathlib import PurePosixPath
from typing import Any

from ...engine.records import Record
from .folder import FolderExporter
from .names import is_verbatim, source_folder, source_stem


class SidecarExporter(FolderExporter):
    """Exporter of one file per picture, found by its path.

    A trainer derives the same name for two pictures of one stem and size in a folder: the second is written under its
    name in the run, which no trainer looks for.
    """

    needs_crop = True
    subfolder = "."  # subfolder of the picture's folder that holds the file

    def open(self) -> None:
        super().open()
        self.renamed: list[str] = []  # the first few sources that the trainer will not find
        self.lost = 0
        self.latest = PurePosixPath()  # the file of the latest picture

    @abstractmethod
    def file_end(self, record: Record) -> str:
        """Return the part of the file name after the stem, including the suffix."""

    def file_stem(self, record: Record, room: int) -> str:
        """Return the beginning of the file name; `room` bytes follow it. Here, the name of the picture's own file."""
        return source_stem(record, room)

    def is_found(self, record: Record, room: int) -> bool:
        """Return whether the trainer derives the same folder and name from the picture's own."""
        return is_verbatim(record, room)

    def file_of(self, record: Record) -> PurePosixPath:
        """Return the unused path of a picture's file, relative to the export."""
        end = self.file_end(record)
        folder, stem = source_folder(record) / self.subfolder, self.file_stem(record, len(end))
        path, number = folder / f"{stem}{end}", 0
        found = self.is_found(record, len(end)) and not (self.temporary / path).exists()
        while (self.temporary / path).exists():
            number += 1
            path = folder / f"{record.name}{f'-{number}' if number > 1 else ''}{end}"
        if not found:
            self.lost += 1
            self.renamed += [record.source_path] if len(self.renamed) < 20 else []
        self.latest = path
        return path

    def source_facts(self, record: Record) -> dict[str, Any]:
        return super().source_facts(record) | {"file": str(self.latest)}

    def finish(self) -> None:
        if self.lost:
            listed = ", ".join(repr(source) for source in self.renamed)
            self.notes.append(
                f"files with other names than the trainer looks for: {self.lost}. Their pictures' own are unsafe, too long, or "
                f"shared by two pictures, of which the trainer takes the first for both: {listed}"
            )
