"""The lock of a run's folder, released by the operating system when the process that holds it ends, however it ends."""

import errno
import logging
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

log = logging.getLogger(__name__)

HELD = (errno.EAGAIN, errno.EACCES)  # by another process, as POSIX has it
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # the file system has none, or not here
_locked_here: set[Path] = set()  # locks held by this process, which its own POSIX locks do not exclude


class RunLock:
    """Exclusive lock of a run's folder, as a context manager. Raises `UsageError` if another run holds it.

    Uses POSIX record locks: unlike flock's they are not inherited, so worker processes that outlive a killed run for a
    moment do not keep the lock; and they work over NFS.
    """

    def __init__(self, out: Path):
        self.path = (out / "run.lock").resolve()
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self.path in _locked_here:
            raise UsageError(f"{self.path.parent} is in use by another run of this very process")
        self._file = self.path.open("a+", encoding="utf-8")
        try:
            if fcntl is not None:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                log.warning(
                    "%s is on a file system without locks (%s): nothing stops a second run on it", self.path.parent,
                    error.strerror,
                )  # fmt: skip
                return self._hold()
            if error.errno not in HELD:
                self._file.close()
                raise
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise UsageError(
                f"{self.path.parent} is in use: {holder} is writing to it; wait for it or stop it"
            ) from error
        return self._hold()

    def _hold(self) -> Self:
        """Enter the process in the file of the lock."""
        assert self._file is not None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()
        _locked_here.add(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        _locked_here.discard(self.path)
        self._file.truncate(0)
        self._file.close()  # releases the lock; the file stays, so that no process locks a file that is being removed
