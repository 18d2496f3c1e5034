"""A file for HDF5 to write to that never fails under its hands."""

from pathlib import Path


class GuardedFile:
    """A file object for h5py.File. A write that fails, on a full disk for one, is kept in `error` and those after it go
    nowhere: HDF5 itself crashes the process when a file cannot be flushed (h5py 3.16, segmentation fault at exit).
    """

    def __init__(self, path: Path):
        self.error: OSError | None = None
        self._file = path.open("w+b", buffering=0)

    def check(self) -> None:
        """Raise the first error there was."""
        if self.error is not None:
            raise self.error

    def write(self, data: memoryview) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while len(rest) and self.error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int) -> int:
        try:
            if self.error is None:
                self._file.truncate(size)
        except OSError as error:
            self.error = error
        return size

    def readinto(self, buffer: memoryview) -> int:
        count = self._file.readinto(buffer) or 0
        if self.error is not None:
            buffer[count:] = bytes(len(buffer) - count)  # of what could not be written
            return len(buffer)
        return count

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size) or b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        pass  # unbuffered

    def close(self) -> None:
        self._file.close()
