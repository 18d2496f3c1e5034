"""A file object for HDF5 that defers write errors until they are checked."""

from pathlib import Path

BUFFER = 2**20  # bytes: HDF5 writes chunk by chunk, mostly sequentially


class DeferredErrorFile:
    """File object for h5py.File whose methods do not raise when a write fails, for example on a full disk.

    The first error is kept in `error`, and later writes are discarded: HDF5 itself crashes the process if a file cannot
    be flushed (h5py 3.16, segmentation fault at exit).
    """

    def __init__(self, path: Path):
        self.error: OSError | None = None
        self._file = path.open("w+b", buffering=0)
        self._place = 0  # position of the next read or write
        self._pending = bytearray()  # buffered data, up to `_place` or the position before the last seek
        self._begin = 0  # position of the buffered data in the file

    def check(self) -> None:
        """Flush, and raise the first error that any write has met."""
        self.flush()
        if self.error is not None:
            raise self.error

    def write(self, data: memoryview) -> int:
        """Buffer `data` for writing at the current position, and return its size in bytes."""
        size = memoryview(data).nbytes
        if self._place != self._begin + len(self._pending) or len(self._pending) + size > BUFFER:
            self.flush()
            self._begin = self._place
        self._pending += data
        self._place += size
        return size

    def truncate(self, size: int) -> int:
        """Set the size of the file in bytes, and return it."""
        self.flush()
        try:
            if self.error is None:
                self._file.truncate(size)
        except OSError as error:
            self.error = error
        return size

    def readinto(self, buffer: memoryview) -> int:
        """Read at the current position into `buffer`, and return the number of bytes.

        After a failed write, bytes missing from the file read as zeros.
        """
        self.flush()
        self._file.seek(self._place)
        count = self._file.readinto(buffer) or 0
        if self.error is not None:
            buffer[count:] = bytes(len(buffer) - count)  # zeros for what could not be written
            count = len(buffer)
        self._place += count
        return count

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes at the current position; all that remain if `size` is -1."""
        self.flush()
        self._file.seek(self._place)
        found = self._file.read(size) or b""
        self._place += len(found)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the current position, relative to the start (0), the position (1) or the end (2), and return it."""
        if whence == 2:
            self.flush()
            self._place = self._file.seek(offset, whence)
        else:
            self._place = offset + whence * self._place
        return self._place

    def tell(self) -> int:
        """Return the current position."""
        return self._place

    def flush(self) -> None:
        """Write the buffer to the file, keeping an error in `error`."""
        rest = memoryview(self._pending)
        try:
            if len(rest) and self.error is None:
                self._file.seek(self._begin)
            while len(rest) and self.error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
        self._begin += len(self._pending)
        self._pending = bytearray()

    def close(self) -> None:
        """Flush and close the file. Does not raise the errors of writes; see `check`."""
        self.flush()
        self._file.close()
