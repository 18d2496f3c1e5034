"""Discovery of the images of a run: paths in a stable order, with their splits and with unique, safe names."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from ..errors import UsageError
from .folders import Skipped, SkippedCounter, skipped_line, walk_folder
from .kinds import SUFFIXES
from .lists import SUFFIXES as LISTS
from .lists import read_list
from .regular_files import kind_of_file
from .sizes import Size

SPLITS = ("train", "val", "test")
DEFAULT_SPLIT = "all"  # The split of images outside folders called train, val or test.
MAX_NAME_BYTES = 160  # Leaves room for suffixes below the 255 bytes that file systems allow.


@dataclass(frozen=True, slots=True)
class Source:
    """One image of the plan."""

    path: str  # The path to open.
    relative: str  # The path to record: relative to the input, with "/" between its parts.
    name: str  # Unique in the run, and safe as a file name.
    split: str
    sha256: str | None = None  # The digest of the file when the run was planned; None where it is unknown.
    mask_sha256: str | None = None  # The digest of its mask, likewise.
    size: Size | None = None  # Width and height of its target in pixels; None: the one size of the run.


@dataclass(frozen=True)
class Discovery:
    """The pictures of an input, and what was passed over."""

    sources: list[Source]
    skipped: tuple[Skipped, ...] = ()


def discover(given: str | Path, limit: int | None = None, exclude: Sequence[Path] = ()) -> list[Source]:
    """Return the images of `given`, see `discover_all`."""
    return discover_all(given, limit, exclude).sources


def discover_all(given: str | Path, limit: int | None = None, exclude: Sequence[Path] = ()) -> Discovery:
    """Return the images of `given`: one image, a folder with its subfolders (train/, val/, test/ are splits), or a text
    file with one path per line; and what was passed over in a folder.

    limit: the largest number of images per split, taken in order. exclude: folders that are skipped, such as the
    output.
    Raises `UsageError` where there is no image.
    """
    root, skipped = Path(given), SkippedCounter()
    if root.is_dir():
        found = _of_folder(root, exclude, skipped)
    elif root.suffix.lower() in LISTS:
        found = [_listed(path, root) for path in read_list(root)]
    elif root.is_file():
        found = [(str(root), _text(root.name), DEFAULT_SPLIT)]
    elif os.path.exists(root):
        raise UsageError(f"input {root}: {kind_of_file(root)}, expected an image, a folder or a text file of paths")
    else:
        raise UsageError(f"input {root}: no such image, folder or text file of paths")
    if limit is not None:
        found = _limit(found, limit)
    names = _unique_names([relative for _, relative, _ in found])
    sources = [Source(path, relative, name, split) for (path, relative, split), name in zip(found, names, strict=True)]
    return Discovery(sources, skipped.result())


def _of_folder(root: Path, exclude: Sequence[Path], skipped: SkippedCounter) -> list[tuple[str, str, str]]:
    """Return path, relative path and split of each picture. Raises `UsageError` where there is none."""
    found = []  # Plain strings: a million Path objects would take a gigabyte.
    for path, here in walk_folder(root, exclude, skipped):
        prefix = "" if here == "." else f"{here}/"
        found.append((path, _text(prefix + os.path.basename(path)), _split(PurePosixPath(here))))
    if not found:
        kinds = " ".join(sorted(SUFFIXES))
        passed = "".join(f"; {line}" for line in map(skipped_line, map(Skipped.to_dict, skipped.result())))
        raise UsageError(f"no image in the folder {root}: expected files ending in {kinds}{passed}")
    # Sorted by split, then by path, so that the order of a run does not depend on the file system.
    order = {name: rank for rank, name in enumerate((*SPLITS, DEFAULT_SPLIT))}
    return sorted(found, key=lambda item: (order[item[2]], item[1]))


def _listed(path: Path, file: Path) -> tuple[str, str, str]:
    """Return path, relative path and split of a picture in the list `file`."""
    relative = Path(os.path.relpath(path, file.parent))
    return str(path), _text(relative.as_posix()), _split(relative.parent)


def _split(folder: PurePath) -> str:
    return next((part for part in folder.parts if part in SPLITS), DEFAULT_SPLIT)


def _limit(found: list[tuple[str, str, str]], limit: int) -> list[tuple[str, str, str]]:
    kept: Counter[str] = Counter()
    result = []
    for item in found:
        if kept[item[2]] < limit:
            kept[item[2]] += 1
            result.append(item)
    return result


def _unique_names(relatives: list[str]) -> list[str]:
    """Return the stems where they are unique (ignoring case), else with eight hexadecimal digits of the path's hash
    appended.
    """
    stems = [safe_name(Path(relative).stem) for relative in relatives]
    counts = Counter(stem.casefold() for stem in stems)
    names = [
        stem if counts[stem.casefold()] == 1 else f"{stem}-{_digest(relative)}"
        for stem, relative in zip(stems, relatives, strict=True)
    ]
    # A name may still occur twice: the same path was listed twice, or a stem happens to end in another one's hash.
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        seen[name.casefold()] += 1
        if seen[name.casefold()] > 1:
            names[index] = f"{name}-{index}"
    return names


def safe_name(stem: str) -> str:
    """Return a file name of at most `MAX_NAME_BYTES` bytes that stays in its folder on any system; Unicode is kept."""
    text = unicodedata.normalize("NFC", _text(stem))
    text = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", text).strip(" ").lstrip(".-").rstrip(". ")
    text = text or "image"
    if len(text.encode()) > MAX_NAME_BYTES:
        cut = text.encode()[: MAX_NAME_BYTES - 9].decode(errors="ignore")
        text = f"{cut}-{_digest(stem)}"
    return text


def _text(name: str) -> str:
    """Return a file name as text: bytes that are not UTF-8, which file systems allow, are written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def bsds500_folder(given: str | Path | None = None) -> Path:
    """Return the folder with BSDS500's train/, val/ and test/, found in `given` or $BSDS500_PATH. Raises `UsageError`."""
    value = given or os.environ.get("BSDS500_PATH")
    if not value:
        raise UsageError("BSDS500_PATH is not set: point it at the folder of BSDS500 with train/, val/ and test/ in it")
    root = Path(value)
    for folder in (root, root / "images", root / "data" / "images", root / "BSDS500" / "data" / "images"):
        if any((folder / split).is_dir() for split in SPLITS):
            return folder
    raise UsageError(f"BSDS500_PATH {root}: found neither train/, val/ nor test/ in it or in data/images/")
