"""One run at a time in a folder, by a lock that ends with the process that holds it, however that ends."""

import os
import socket
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ...engine.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: set[Path] = set()  # by this process: its own locks do not exclude it


class RunLock:
    """A context manager. Raises `UsageError` where another run holds the folder.

    POSIX record locks: unlike flock's they are not inherited, so worker processes that outlive a killed run for a
    moment do not keep it; and they work over NFS.
    """

    def __init__(self, out: Path):
        self.path = (out / "run.lock").resolve()
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self.path in _held:
            raise UsageError(f"{self.path.parent} is in use by another run of this very process")
        self._file = self.path.open("a+", encoding="utf-8")
        try:
            if fcntl is not None:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise UsageError(
                f"{self.path.parent} is in use: {holder} is writing to it; wait for it or stop it"
            ) from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()
        _held.add(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        _held.discard(self.path)
        self._file.truncate(0)
        self._file.close()  # lets go of the lock; the file stays, so that nobody locks one that is being removed
