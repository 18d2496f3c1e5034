"""Names inside an export: as in the source where that is harmless, and never outside the export's folder."""

import re
from pathlib import PurePosixPath

from ...engine.inputs.sources import safe_name
from ...engine.records import Record

MAX_BYTES = 255  # of one name, on the usual file systems
# the export's own files, which a source's folder may not take the place of
RESERVED = frozenset(["relatent.json", "readme.md", "sha256sums", "classes.json"])


def safe_part(part: str, room: int = 0) -> str:
    """One folder's or file's name, unchanged unless it could leave its folder, break a list of names, or be too long
    with `room` more bytes behind it."""
    harmless = part not in ("", ".", "..") and not re.search(r"[\x00-\x1f\x7f/\\]", part)
    return part if harmless and len(part.encode()) + room <= MAX_BYTES else safe_name(part)


def safe_folder(part: str) -> str:
    """A folder's name: as `safe_part`, ".." as "_up", and not that of a file of the export itself."""
    part = "_up" if part == ".." else safe_part(part)
    return f"_{part}" if part.casefold() in RESERVED else part


def source_folder(record: Record) -> PurePosixPath:
    """The relative folder of the source, "." at the top."""
    return PurePosixPath(*(safe_folder(part) for part in PurePosixPath(record.source_path).parts[:-1] if part != "/"))


def source_stem(record: Record, room: int) -> str:
    """The source's file name without its suffix, where it fits with `room` more bytes, else one that is safe."""
    return safe_part(PurePosixPath(record.source_path).stem, room)


def is_verbatim(record: Record, room: int) -> bool:
    """Whether folder and stem are those of the source, so that a trainer looks for the file where it is."""
    path = PurePosixPath(record.source_path)
    return (
        str(source_folder(record) / source_stem(record, room)) == str(path.with_suffix("")) and ".." not in path.parts
    )
