"""The pictures in a folder and its subfolders, and what is passed over there."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .captions import LISTED
from .captions import SUFFIXES as CAPTIONS
from .kinds import is_read, why_not_read

HEAD = 4096  # bytes of a file that tell whether it is ours
OTHER_FILES, OUR_FOLDERS = "other files", "folders of relatent"
UNREADABLE, LINKED = "unreadable folders", "linked folders"


@dataclass(frozen=True)
class Skipped:
    """Files or folders of the input that were passed over for one reason."""

    count: int
    kind: str  # an ending, or what they are
    reason: str  # why, with the remedy where there is one
    first: str  # one of them, relative to the input

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def skipped_line(skipped: dict[str, Any]) -> str:
    """Return a line for users, from what `Skipped.to_dict` returned."""
    example = "" if skipped["kind"] == OTHER_FILES else f": {skipped['first']}"
    more = " …" if example and skipped["count"] > 1 else ""
    return f"skipped: {skipped['count']} ({skipped['kind']}, {skipped['reason']}){example}{more}"


class SkippedCounter:
    """Counts what is passed over, by kind and reason."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, kind: str, reason: str, path: str) -> None:
        """Count one file or folder. path: relative to the input."""
        count, first = self._found.get((kind, reason), (0, path))
        self._found[kind, reason] = count + 1, min(first, path)

    def result(self) -> tuple[Skipped, ...]:
        """Return the counts, those of most first; files that are no pictures come last."""
        found = [Skipped(count, *key, first) for key, (count, first) in self._found.items()]
        return tuple(sorted(found, key=lambda one: (one.kind == OTHER_FILES, -one.count, one.kind)))


def walk_folder(root: Path, exclude: Iterable[Path], skipped: SkippedCounter) -> Iterator[tuple[str, str]]:
    """Yield path and folder, relative to `root` with "/" between its parts, of every picture below a folder.

    Links to folders are followed after all else, and each folder is read once, so that links cannot lead in circles.
    Folders that begin with a dot are hidden, and passed over without being counted. exclude: folders that are left out, such as
    the output; they are not counted either.
    """
    walk = _Walk(root, {folder.resolve() for folder in exclude}, skipped)
    yield from walk.folder(str(root))
    while walk.links:
        links, walk.links = sorted(walk.links), []
        for link in links:
            yield from walk.folder(link)


class _Walk:
    """One walk over a folder, with what it has seen."""

    def __init__(self, root: Path, exclude: set[Path], skipped: SkippedCounter):
        self.root, self.exclude, self.skipped = root, exclude, skipped
        self.links: list[str] = []  # to folders, not followed yet
        self._seen: set[tuple[int, int]] = set()  # devices and inodes of the folders that were read

    def folder(self, top: str) -> Iterator[tuple[str, str]]:
        """Yield the pictures below `top`, but for those behind links."""
        if not self._is_new(top):
            return
        for folder, subfolders, files in os.walk(top, onerror=self._unreadable):
            here = self._relative(folder)
            if folder != str(self.root) and _is_ours(folder, files):
                self.skipped.add(OUR_FOLDERS, "holds what relatent has written; not taken for pictures", here)
                subfolders.clear()
                continue
            subfolders[:] = [name for name in sorted(subfolders) if self._enters(os.path.join(folder, name), name)]
            captions = _captions(files)
            for name in files:
                if name.startswith("._"):  # a macOS metadata (AppleDouble) file
                    continue
                if is_read(suffix := os.path.splitext(name)[1]):
                    yield os.path.join(folder, name), here
                elif reason := why_not_read(suffix):
                    self.skipped.add(suffix.lower(), reason, self._relative(os.path.join(folder, name)))
                elif name.startswith("."):
                    if is_read(ending := f".{name.lstrip('.')}") or why_not_read(ending):
                        reason = "a name that is an ending alone is not read; put a name before it"
                        self.skipped.add(ending.lower(), reason, self._relative(os.path.join(folder, name)))
                elif name not in captions:
                    self.skipped.add(OTHER_FILES, "no picture", self._relative(os.path.join(folder, name)))

    def _enters(self, path: str, name: str) -> bool:
        """Return whether to go on into a subfolder now; a link is kept for later."""
        if name.startswith("."):
            return False
        place = Path(path).resolve()
        if not self.exclude.isdisjoint((place, *place.parents)):  # a link may lead below an excluded folder
            return False
        if os.path.islink(path):
            self.links.append(path)
            return False
        return self._is_new(path)

    def _is_new(self, path: str) -> bool:
        """Return whether a folder was not read yet, and note it; one that was is counted."""
        try:
            facts = os.stat(path)
        except OSError as error:
            self._unreadable(error)
            return False
        if (facts.st_dev, facts.st_ino) in self._seen:
            self.skipped.add(LINKED, "lead to a folder that is read under another path", self._relative(path))
            return False
        self._seen.add((facts.st_dev, facts.st_ino))
        return True

    def _unreadable(self, error: OSError) -> None:
        self.skipped.add(UNREADABLE, error.strerror or type(error).__name__, self._relative(str(error.filename)))

    def _relative(self, path: str) -> str:
        """Return a path relative to the input, "." for the input itself."""
        return Path(path).relative_to(self.root).as_posix()


def _captions(files: list[str]) -> set[str]:
    """Return the names of those files of a folder that hold captions of pictures in it."""
    parts = [os.path.splitext(name) for name in files]
    stems = {stem for stem, suffix in parts if is_read(suffix)}
    return {LISTED} | {stem + suffix for stem, suffix in parts if suffix in CAPTIONS and stem in stems}


def _is_ours(folder: str, files: list[str]) -> bool:
    """Return whether a folder is that of a run, or an export with pictures in it."""
    marks = (("run.json", b'"schema": "relatent/'), ("relatent.json", b'"format": "png"'))
    return any(name in files and text in _head(os.path.join(folder, name)) for name, text in marks)


def _head(path: str) -> bytes:
    """Return the first bytes of a regular file; none where it cannot be read."""
    try:
        if not os.path.isfile(path):
            return b""
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""
