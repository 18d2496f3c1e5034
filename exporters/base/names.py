"""File names inside an export: as in the source if they are safe, and never outside the export's folder."""

import re
from pathlib import PurePosixPath

from ...engine.inputs.sources import safe_name
from ...engine.records import Record

MAX_BYTES = 255  # The length limit of one name on common file systems.
# The export's own files, whose names a source's folder must not take.
RESERVED = frozenset(["relatent.json", "readme.md", "sha256sums", "classes.json", "sources.jsonl"])


def safe_part(part: str, room: int = 0) -> str:
    """Return the name of one folder or file, replaced by a safe name only if needed.

    It is replaced if it could leave its folder, break a list of names, or be too long with `room` more bytes appended.
    """
    harmless = part not in ("", ".", "..") and not re.search(r"[\x00-\x1f\x7f/\\]", part)
    return part if harmless and len(part.encode()) + room <= MAX_BYTES else safe_name(part)


def safe_folder(part: str) -> str:
    """Return the name of a folder, made safe by `safe_part`.

    ".." becomes "_up", and a name of one of the export's own files gets a leading underscore.
    """
    part = "_up" if part == ".." else safe_part(part)
    return f"_{part}" if part.casefold() in RESERVED else part


def source_folder(record: Record) -> PurePosixPath:
    """Return the relative folder of the source, "." at the top."""
    return PurePosixPath(*(safe_folder(part) for part in PurePosixPath(record.source_path).parts[:-1] if part != "/"))


def source_stem(record: Record, room: int) -> str:
    """Return the source's file name without suffix if `room` more bytes fit after it, else a safe name."""
    return safe_part(PurePosixPath(record.source_path).stem, room)


def is_verbatim(record: Record, room: int) -> bool:
    """Return whether folder and stem are those of the source, so that a trainer finds the file where it expects it."""
    path = PurePosixPath(record.source_path)
    return (
        str(source_folder(record) / source_stem(record, room)) == str(path.with_suffix("")) and ".." not in path.parts
    )
