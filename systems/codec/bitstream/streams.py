"""Integers to bytes and back by rANS (constriction), each under one of a list of integer tables.

Within one call symbols are ordered by table, the last table first, so one table's symbols are coded in one go. Values outside a table's reach are
coded as its escape; the values themselves follow, 14 bits each.

A coder that starts empty wastes up to three bytes. So each stream's coder starts from the first four bytes of the stream that
is decoded after it, which are left out there: only the last stream starts empty.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ....engine.errors import UsageError
from ..errors import BitstreamError
from .tables import PRECISION, TOTAL, Table, values_in_order

LARGEST = 8191  # of a coded value; larger ones are clamped
ESCAPE_BITS = 14
CARRIED = 4  # bytes of the next stream

Integers = npt.NDArray[np.int32]


def entropy_coder() -> Any:
    """The module constriction. Raises UsageError where it is not installed."""
    try:
        import constriction
    except ImportError as error:
        raise UsageError("the codec needs constriction: pip install 'relatent[codec]'") from error
    return constriction


class TableModels:
    """A list of tables as constriction's models."""

    def __init__(self, tables: list[Table]) -> None:
        constriction = entropy_coder()
        self.new_coder = constriction.stream.stack.AnsCoder
        self.uniform = constriction.stream.model.Uniform(1 << ESCAPE_BITS)
        # constriction gives each symbol 1 and shares out the remaining 2²⁴ - n in proportion to what it is passed. Passed the
        # table less one, whose sum is that remainder, it uses the table itself.
        self.models = [constriction.stream.model.Categorical((t - 1).astype(np.float64), perfect=False) for t in tables]
        self.reaches = [(len(table) - 2) // 2 for table in tables]
        self.values = [np.append(values_in_order(reach), 0) for reach in self.reaches]  # the escape's is replaced
        self.bits = [PRECISION - np.log2(table) for table in tables]
        if any(int(table.sum(dtype=np.int64)) != TOTAL for table in tables):
            raise ValueError(f"expected tables that sum to {TOTAL}")


def _groups(indices: Integers) -> tuple[Integers, list[tuple[int, int, int]]]:
    """The stable order by table, and (table, first, last) of each table that occurs, within that order.

    The last table comes first: that of the largest σ. What is decoded last is pushed on the empty coder, where zeros are free.
    """
    order = np.argsort(-indices, kind="stable").astype(np.int32)
    tables, first = np.unique(-indices[order], return_index=True)
    bounds = [*first.tolist(), len(indices)]
    return order, [(-int(table), bounds[i], bounds[i + 1]) for i, table in enumerate(tables)]


class StreamWriter:
    """Collects symbols in the decoder's order; rANS is a stack, so they are pushed backwards at the end."""

    def __init__(self) -> None:
        self.parts: list[tuple[Integers, Any]] = []
        self.bits = 0.0  # the ideal length under the tables

    def put(self, models: TableModels, values: Integers, indices: Integers) -> None:
        """values, indices: (n,) int32; each value within ±LARGEST, each index that of its table."""
        order, groups = _groups(indices)
        ordered = values[order]
        escaped = []
        for table, first, last in groups:
            reach = models.reaches[table]
            part = ordered[first:last]
            outside = np.abs(part) > reach
            symbols = np.where(outside, 2 * reach + 1, np.where(part < 0, -2 * part - 1, 2 * part)).astype(np.int32)
            self.parts.append((symbols, models.models[table]))
            self.bits += float(models.bits[table][symbols].sum())
            escaped.append(part[outside])
        extra = np.concatenate(escaped) if escaped else np.empty(0, np.int32)
        if len(extra):
            self.parts.append(((extra + LARGEST).astype(np.int32), models.uniform))
            self.bits += ESCAPE_BITS * len(extra)

    def finish(self, models: TableModels, start: bytes = b"") -> bytes:
        """The stream: rANS words, little-endian, without the zero bytes at the end. start: at most four bytes to carry."""
        coder = models.new_coder(_words(start.rstrip(b"\0")))
        for symbols, model in reversed(self.parts):
            coder.encode_reverse(symbols, model)
        return _bytes(coder)


def finish_all(writers: list[StreamWriter], models: TableModels) -> list[bytes]:
    """The streams of the writers, in the decoder's order, each carrying the first bytes of the next."""
    streams: list[bytes] = []
    for writer in reversed(writers):
        start = streams[0][:CARRIED] if streams else b""
        streams[:1] = [writer.finish(models, start), *(stream[CARRIED:] for stream in streams[:1])]
    return streams


def _words(data: bytes) -> npt.NDArray[np.uint32]:
    return np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)


def _bytes(coder: Any) -> bytes:
    return bytes(coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0"))


class StreamReader:
    """The symbols of one stream, in the order in which they were put. carried: what the stream before it carries."""

    def __init__(self, models: TableModels, data: bytes, name: str, carried: bytes | None = None) -> None:
        self.name = name
        if data.endswith(b"\0"):
            raise BitstreamError(f"the stream {name} is damaged: it ends in a zero byte; get the file again")
        if carried is not None:
            data = (carried.ljust(CARRIED, b"\0") + data).rstrip(b"\0")
        self.coder = models.new_coder(_words(data))

    def get(self, models: TableModels, indices: Integers) -> Integers:
        """(n,) indices of tables to (n,) values."""
        order, groups = _groups(indices)
        ordered = np.empty(len(indices), np.int32)
        outside = np.zeros(len(indices), bool)
        for table, first, last in groups:
            reach = models.reaches[table]
            symbols = self.coder.decode(models.models[table], last - first)
            ordered[first:last] = models.values[table][symbols]
            outside[first:last] = symbols == 2 * reach + 1
        count = int(outside.sum())
        if count:
            ordered[outside] = np.minimum(self.coder.decode(models.uniform, count) - LARGEST, LARGEST)
        values = np.empty_like(ordered)
        values[order] = ordered
        return values

    def finish(self, last: bool = False) -> bytes:
        """What the stream carries for the next one, at most four bytes, none if it is the last.

        Raises BitstreamError where more is left: then the stream was made for other symbols.
        """
        left = _bytes(self.coder)
        if len(left) > (0 if last else CARRIED):
            raise BitstreamError(
                f"the stream {self.name} is damaged: it does not end where its symbols do; get the file again"
            )
        return left
