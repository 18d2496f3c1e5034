"""Base class of latent caches that a trainer expects beside its pictures: the same folders, with derived file names."""

from abc import abstractmethod
from pathlib import PurePosixPath

from ...engine.errors import UsageError
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

    @abstractmethod
    def file_end(self, record: Record) -> str:
        """Return the part of the file name after the stem, including the suffix."""

    def file_of(self, record: Record) -> PurePosixPath:
        """Return the unused path of a picture's file, relative to the export.

        Raises `UsageError` for a padded picture.
        """
        settings = self.header.settings
        if settings is not None and settings.fit == "pad" and len(set(record.original_size)) > 1:
            raise UsageError(f"{self.name} crops pictures, and those of this run are padded: optimise with --fit crop")
        end = self.file_end(record)
        folder, stem = source_folder(record) / self.subfolder, source_stem(record, len(end))
        path, number = folder / f"{stem}{end}", 0
        found = is_verbatim(record, len(end)) and not (self.temporary / path).exists()
        while (self.temporary / path).exists():
            number += 1
            path = folder / f"{record.name}{f'-{number}' if number > 1 else ''}{end}"
        if not found:
            self.lost += 1
            self.renamed += [record.source_path] if len(self.renamed) < 20 else []
        return path

    def finish(self) -> None:
        if self.lost:
            listed = ", ".join(repr(source) for source in self.renamed)
            self.notes.append(
                f"files with other names than the trainer looks for: {self.lost}. Their pictures' own are unsafe, too long, or "
                f"shared by two pictures, of which the trainer takes the first for both: {listed}"
            )
