"""Base class of formats that write numbered shards, one series per split."""

from abc import abstractmethod
from collections import Counter
from typing import Any, ClassVar

from ...engine.records import Record
from .folder import FolderExporter


class ShardedExporter(FolderExporter):
    """Exporter that buffers samples until a shard is full; memory holds at most one shard per split and group.

    The samples of a shard are of one group, see `group_of`; the shards of a split are numbered through all groups.
    """

    shard_samples: ClassVar[int] = 10_000
    shard_bytes: ClassVar[int] = 1 << 27

    def open(self) -> None:
        super().open()
        self.waiting: dict[tuple[str, Any], list[Any]] = {}  # samples by split and group
        self.bytes: Counter[tuple[str, Any]] = Counter()
        self.shards: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        key = (record.split, self.group_of(record))
        sample, size = self.encode(record)
        if self.bytes[key] and self.bytes[key] + size > self.shard_bytes:
            self._flush(key)
        self.waiting.setdefault(key, []).append(sample)
        self.bytes[key] += size
        if len(self.waiting[key]) >= self.shard_samples:
            self._flush(key)

    def finish(self) -> None:
        for key in self.waiting:
            self._flush(key)

    def group_of(self, record: Record) -> Any:
        """Return what the pictures of one shard must have in common, such as the shape of their latents; here, nothing."""
        return None

    @abstractmethod
    def encode(self, record: Record) -> tuple[Any, int]:
        """Return a picture's sample, as `write_shard` takes it, and its approximate size in bytes."""

    @abstractmethod
    def write_shard(self, split: str, number: int, samples: list[Any]) -> None:
        """Write one shard file of at least one sample."""

    def _flush(self, key: tuple[str, Any]) -> None:
        """Write the buffered samples of a split and group as the split's next shard."""
        split, _ = key
        if self.waiting[key]:
            self.write_shard(split, self.shards[split], self.waiting[key])
            self.shards[split] += 1
        self.waiting[key], self.bytes[key] = [], 0
