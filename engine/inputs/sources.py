"""Which pictures a run has: paths found in a stable order, with unique safe names and splits."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError

SPLITS = ("train", "val", "test")
DEFAULT_SPLIT = "all"  # of pictures outside folders called train, val or test
SUFFIXES = frozenset(
    [
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".qoi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
MAX_NAME_BYTES = 160  # leaves room for suffixes under the 255 bytes of file systems


@dataclass(frozen=True, slots=True)
class Source:
    """One picture of the plan."""

    path: str  # to open
    relative: str  # to record: relative to the input, "/" between parts
    name: str  # unique in the run, safe as a file name
    split: str
    sha256: str | None = None  # of the file when the run was planned; None: not known
    mask_sha256: str | None = None  # likewise, of its mask's


def discover(given: str | Path, limit: int | None = None, exclude: Sequence[Path] = ()) -> list[Source]:
    """Pictures of `given`: one image, a folder (subfolders too; train/, val/, test/ are splits), or a text file of paths.

    limit: at most so many per split, in order. exclude: folders that are passed over, such as the output.
    Raises `UsageError` where there is nothing to find.
    """
    root = Path(given)
    if root.is_dir():
        found = _walk(root, {folder.resolve() for folder in exclude})
        if not found:
            kinds = " ".join(sorted(SUFFIXES))
            raise UsageError(f"no image in the folder {root}: expected files ending in {kinds}")
    elif root.suffix.lower() in (".txt", ".lst", ".list"):
        found = _read_list(root)
    elif root.is_file():
        found = [(str(root), _text(root.name), DEFAULT_SPLIT)]
    else:
        raise UsageError(f"input {root}: no such image, folder or text file of paths")
    if limit is not None:
        found = _limit(found, limit)
    names = _unique_names([relative for _, relative, _ in found])
    return [Source(path, relative, name, split) for (path, relative, split), name in zip(found, names, strict=True)]


def _walk(root: Path, exclude: set[Path]) -> list[tuple[str, str, str]]:
    found = []  # of text, not of Paths: a million of those are a gigabyte
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and Path(folder, name).resolve() not in exclude
        )
        here = Path(folder).relative_to(root)
        split, prefix = _split(here), "" if here == Path() else f"{here.as_posix()}/"
        for file in sorted(files):
            if Path(file).suffix.lower() in SUFFIXES and not file.startswith("._"):  # "._": macOS's shadows
                found.append((os.path.join(folder, file), _text(prefix + file), split))
    # by split, then by path: a run's order does not depend on the file system's
    order = {name: rank for rank, name in enumerate((*SPLITS, DEFAULT_SPLIT))}
    return sorted(found, key=lambda item: (order[item[2]], item[1]))


def _read_list(file: Path) -> list[tuple[str, str, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list {file}: {error}") from error
    found = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            path = file.parent / line.strip()
            relative = Path(os.path.relpath(path, file.parent))
            found.append((str(path), _text(relative.as_posix()), _split(relative.parent)))
    if not found:
        raise UsageError(f"the list {file} names no image: expected one path a line")
    return found


def _split(folder: Path) -> str:
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
    """Stems where they are unique (whatever the case), else with eight hex digits of the path's hash behind."""
    stems = [safe_name(Path(relative).stem) for relative in relatives]
    counts = Counter(stem.casefold() for stem in stems)
    names = [
        stem if counts[stem.casefold()] == 1 else f"{stem}-{_digest(relative)}"
        for stem, relative in zip(stems, relatives, strict=True)
    ]
    # the same path listed twice, or a stem that happens to end in another's hash
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        seen[name.casefold()] += 1
        if seen[name.casefold()] > 1:
            names[index] = f"{name}-{index}"
    return names


def safe_name(stem: str) -> str:
    """A file name of at most `MAX_NAME_BYTES` bytes that stays in its folder on any system; unicode is kept."""
    text = unicodedata.normalize("NFC", _text(stem))
    text = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", text).strip(" ").lstrip(".-").rstrip(". ")
    text = text or "image"
    if len(text.encode()) > MAX_NAME_BYTES:
        cut = text.encode()[: MAX_NAME_BYTES - 9].decode(errors="ignore")
        text = f"{cut}-{_digest(stem)}"
    return text


def _text(name: str) -> str:
    """File names need not be UTF-8; those bytes are written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def bsds500_folder(given: str | Path | None = None) -> Path:
    """The folder with BSDS500's train/, val/ and test/, from `given` or $BSDS500_PATH. Raises `UsageError`."""
    value = given or os.environ.get("BSDS500_PATH")
    if not value:
        raise UsageError("BSDS500_PATH is not set: point it at the folder of BSDS500 with train/, val/ and test/ in it")
    root = Path(value)
    for folder in (root, root / "images", root / "data" / "images", root / "BSDS500" / "data" / "images"):
        if any((folder / split).is_dir() for split in SPLITS):
            return folder
    raise UsageError(f"BSDS500_PATH {root}: found neither train/, val/ nor test/ in it or in data/images/")
