"""The state of an input file when the run was planned, and how the file differs from it now."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ...engine.runtime.atomic import file_sha256


@dataclass(frozen=True, slots=True)
class Change:
    """How a file differs from what was planned."""

    path: str
    what: str  # "has changed", "is gone" or "cannot be read: …"

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


@dataclass(frozen=True, slots=True)
class FileState:
    """Size, modification time and checksum of a file.

    A file that could not be read has no checksum, and counts as unchanged whatever happens to it.
    """

    path: str
    bytes: int = -1
    mtime_ns: int = -1
    sha256: str | None = None

    @classmethod
    def of(cls, path: str) -> "FileState":
        """Return the state of the file at `path`, reading it for its checksum."""
        try:
            facts = os.stat(path)
            return cls(path, facts.st_size, facts.st_mtime_ns, _sha256(path, facts))
        except OSError:  # the run will list the picture as failed, with the reason
            return cls(path)

    def change(self, content: bool = False) -> Change | None:
        """Return how the file differs now; None if it is unchanged.

        content: read the file again also where its size and time are equal.
        """
        if self.sha256 is None:
            return None
        try:
            facts = os.stat(self.path)
            if not content and (facts.st_size, facts.st_mtime_ns) == (self.bytes, self.mtime_ns):
                return None
            return None if _sha256(self.path, facts) == self.sha256 else Change(self.path, "has changed")
        except (FileNotFoundError, NotADirectoryError):
            return Change(self.path, "is gone")
        except OSError as error:
            return Change(self.path, f"cannot be read: {error.strerror or error}")


def _sha256(path: str, facts: os.stat_result) -> str:
    """Return the checksum of the file at `path`. Raises `OSError` for what is no regular file, such as a pipe."""
    if not stat.S_ISREG(facts.st_mode):
        raise OSError("no regular file")
    return file_sha256(Path(path))
