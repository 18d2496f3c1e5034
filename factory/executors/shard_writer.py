"""The writer of one shard, which writes asynchronously in a background thread while the engine continues."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, Future

import h5py

from ...engine.records import Failure, Record
from ...engine.runtime.atomic import file_sha256
from ...engine.statistics.latent_report import LatentReport
from ...exporters.hdf5.exporter import ShardExporter
from ...exporters.hdf5.reading import open_file, read_records
from ..state.ledger import Shard
from ..state.run_folder import RunFolder

WAITING = 4  # maximum number of batches queued for writing
AT_ONCE = 2**24  # bytes of pictures and latents buffered per write: HDF5 takes milliseconds per write, however small


class ShardWriter:
    """Asynchronous writer of one shard.

    Takes outcomes in the order of the plan, and merges the records that an earlier, interrupted attempt has finished.
    `commit` is called with the shard once its file is fsynced and has its final name.
    """

    def __init__(
        self,
        folder: RunFolder,
        number: int,
        kept: Collection[str],
        background: Executor,
        commit: Callable[[Shard], None],
    ):
        """Start to write shard `number`. kept: names of the pictures already finished, from `kept_names`."""
        self.number, self.commit, self._background = number, commit, background
        self.path = folder.shard_path(number)
        self.report = LatentReport(masked=folder.record.settings.masks is not None)
        self._order = deque(row.source.name for row in folder.plan.rows(number))
        self._kept = kept
        self._old = (record for records in read_records(self.path) for record in records) if kept else iter(())
        self._exporter = ShardExporter(self.path, folder.header)
        self._gains, self._failures = list[float](), list[Failure]()
        self._tasks: deque[Future[None]] = deque()
        self._gathered, self._bytes = list[Record](), 0
        self._exporter.begin()

    def add(self, outcomes: list[Record | Failure]) -> None:
        """Write outcomes in the background. Raises the error of an earlier write."""
        self._tasks.append(self._background.submit(self._write, outcomes))
        self.wait(WAITING)

    def wait(self, most: int = 0) -> None:
        """Wait until at most `most` batches are queued. Raises the error of an earlier write."""
        while len(self._tasks) > most:
            self._tasks.popleft().result()

    def flush(self) -> None:
        """Wait until all queued records are written to the file."""
        self.wait()
        self._background.submit(self._flush).result()

    def finish(self, whole: bool = True) -> Future[None]:
        """Close, verify and publish the shard in the background. whole: whether it holds all of its pictures."""
        return self._background.submit(self._finish, whole)

    def commit_partial(self, outcomes: list[Record | Failure]) -> None:
        """Publish what is finished, including these outcomes, as an interrupted shard.

        If it cannot be written, the file of an earlier attempt is left unchanged.
        """
        try:
            self.add(outcomes)
            self.finish(whole=False).result()
        except OSError:
            self._background.submit(self._discard).result()

    def _discard(self) -> None:
        """Discard the temporary file."""
        self._exporter.rollback()

    def _write(self, outcomes: list[Record | Failure]) -> None:
        """Merge outcomes with the records kept from an earlier attempt, in the background thread."""
        records: list[Record] = []
        for outcome in outcomes:
            records += self._kept_records_before(outcome.name)
            if isinstance(outcome, Record):
                records.append(outcome)
            else:
                self._failures.append(outcome)
        self._put(records)

    def _kept_records_before(self, name: str | None) -> Iterator[Record]:
        """Yield the kept records that precede the picture `name` in the plan; all remaining ones if `name` is None."""
        while self._order:
            current = self._order.popleft()
            if current == name:
                return
            if current in self._kept:
                yield next(self._old)

    def _put(self, records: Iterable[Record], last: bool = False) -> None:
        """Buffer records, and flush the buffer when it is full or `last` is set."""
        for record in records:
            self._gains.append(record.metrics["psnr_improvement"])
            self._gathered.append(record)
            self._bytes += record.nbytes
            if self._bytes > AT_ONCE:
                self._flush()
        if last:
            self._flush()

    def _flush(self) -> None:
        """Write the buffered records to the file."""
        self._exporter.write(self._gathered)
        self.report.add(self._gathered)
        self._gathered, self._bytes = [], 0

    def _finish(self, whole: bool) -> None:
        """Complete the shard and call `commit`, in the background thread."""
        try:
            for task in self._tasks:
                task.result()  # finished, but possibly with an error
            self._put(self._kept_records_before(None), last=True)
            self._exporter.attributes["report"] = self.report.state()
        except BaseException:
            self._exporter.rollback()
            raise
        facts: tuple[str | None, str | None, int] = (None, None, 0)
        if self._gains:
            self._exporter.commit()
            facts = (self.path.name, file_sha256(self.path), self.path.stat().st_size)
        else:
            self._discard()
            self.path.unlink(missing_ok=True)  # file of an attempt that was not recorded in the ledger
        if whole or self._gains:
            self.commit(Shard(self.number, *facts, len(self._gains), whole, tuple(self._failures), tuple(self._gains)))


def kept_names(folder: RunFolder, shard: Shard | None) -> set[str]:
    """Return the names of the pictures that an earlier attempt at a shard has finished; none if `shard` is None."""
    if shard is None or shard.file is None:
        return set()
    with open_file(folder.shard_path(shard.number)) as file:
        names: h5py.Dataset = file["image_name"]
        return set(names.asstr()[:])
