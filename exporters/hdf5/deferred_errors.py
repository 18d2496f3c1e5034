"""A file for HDF5 to write to that never fails under its hands."""

from pathlib import Path

BUFFER = 2**20  # bytes: HDF5 writes chunk by chunk, most of them where the one before ended


class DeferredErrorFile:
    """A file object for h5py.File. A write that fails, on a full disk for one, is kept in `error` and those after it go
    nowhere: HDF5 itself crashes the process when a file cannot be flushed (h5py 3.16, segmentation fault at exit).
    """

    def __init__(self, path: Path):
        self.error: OSError | None = None
        self._file = path.open("w+b", buffering=0)
        self._place = 0  # where HDF5 reads or writes next
        self._pending = bytearray()  # written, up to `_place` or to where it was before a seek
        self._begin = 0  # of what is pending

    def check(self) -> None:
        """Raise the first error there was in all that has been written."""
        self.flush()
        if self.error is not None:
            raise self.error

    def write(self, data: memoryview) -> int:
        size = memoryview(data).nbytes
        if self._place != self._begin + len(self._pending) or len(self._pending) + size > BUFFER:
            self.flush()
            self._begin = self._place
        self._pending += data
        self._place += size
        return size

    def truncate(self, size: int) -> int:
        self.flush()
        try:
            if self.error is None:
                self._file.truncate(size)
        except OSError as error:
            self.error = error
        return size

    def readinto(self, buffer: memoryview) -> int:
        self.flush()
        self._file.seek(self._place)
        count = self._file.readinto(buffer) or 0
        if self.error is not None:
            buffer[count:] = bytes(len(buffer) - count)  # of what could not be written
            count = len(buffer)
        self._place += count
        return count

    def read(self, size: int = -1) -> bytes:
        self.flush()
        self._file.seek(self._place)
        found = self._file.read(size) or b""
        self._place += len(found)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2:
            self.flush()
            self._place = self._file.seek(offset, whence)
        else:
            self._place = offset + whence * self._place
        return self._place

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
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
        self.flush()
        self._file.close()
