"""Base class of formats that write numbered shards, one series per split."""

from abc import abstractmethod
from collections import Counter
from typing import Any, ClassVar

from ...engine.records import Record
from .folder import FolderExporter


class ShardedExporter(FolderExporter):
    """Exporter that buffers samples until a shard is full; memory holds at most one shard per split."""

    one_shape: ClassVar[bool] = False  # whether the latents of a shard must have one shape
    shard_samples: ClassVar[int] = 10_000
    shard_bytes: ClassVar[int] = 1 << 27

    def open(self) -> None:
        super().open()
        self.waiting: dict[str, list[Any]] = {}
        self.bytes: Counter[str] = Counter()
        self.shapes: dict[str, tuple[int, ...]] = {}  # of the latents in the buffer, by split
        self.shards: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        split = record.split
        sample, size = self.encode(record)
        shape = record.optimized_latents.shape
        other = self.one_shape and self.shapes.get(split, shape) != shape
        if self.bytes[split] and (other or self.bytes[split] + size > self.shard_bytes):
            self._flush(split)
        self.shapes[split] = shape
        self.waiting.setdefault(split, []).append(sample)
        self.bytes[split] += size
        if len(self.waiting[split]) >= self.shard_samples:
            self._flush(split)

    def finish(self) -> None:
        for split in self.waiting:
            self._flush(split)

    @abstractmethod
    def encode(self, record: Record) -> tuple[Any, int]:
        """Return a picture's sample, as `write_shard` takes it, and its approximate size in bytes."""

    @abstractmethod
    def write_shard(self, split: str, number: int, samples: list[Any]) -> None:
        """Write one shard file of at least one sample."""

    def _flush(self, split: str) -> None:
        """Write the buffered samples of a split as its next shard."""
        if self.waiting[split]:
            self.write_shard(split, self.shards[split], self.waiting[split])
            self.shards[split] += 1
        self.waiting[split], self.bytes[split] = [], 0
