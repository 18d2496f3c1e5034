"""Integer tables and rANS."""

import sys

import numpy as np
import pytest
from relatent.engine.errors import UsageError
from relatent.systems.codec.bitstream.streams import LARGEST, StreamReader, StreamWriter, TableModels, finish_all
from relatent.systems.codec.bitstream.tables import TOTAL, TableSet, integer_table, values_in_order
from relatent.systems.codec.errors import BitstreamError, CodecModelError


@pytest.fixture(scope="module")
def models(codec):
    return TableModels(codec.tables.gaussian)


def test_tables_sum_to_the_coders_total(codec):
    tables = [*codec.tables.gaussian, *codec.tables.z]
    assert len(codec.tables.gaussian) == 64
    assert {int(table.sum(dtype=np.int64)) for table in tables} == {TOTAL} == {2**24}
    assert min(int(table.min()) for table in tables) >= 1


def test_zero_is_rarer_under_a_larger_scale(codec):
    zeros = [int(table[0]) for table in codec.tables.gaussian]
    assert zeros == sorted(zeros, reverse=True)
    assert len(set(zeros)) == 64
    assert values_in_order(2).tolist() == [0, -1, 1, -2, 2]


@pytest.mark.parametrize("level", [0, 18, 63])
def test_the_coder_uses_the_table_itself(codec, models, level):
    """The low 24 bits of the coder's state choose the symbol: at both ends of each symbol's share."""
    table = codec.tables.gaussian[level]
    ends = np.concatenate([[0], np.cumsum(table, dtype=np.int64)])
    for symbol in range(len(table)):
        for share in (ends[symbol], ends[symbol + 1] - 1):
            coder = models.new_coder(np.array([int(share) | 7 << 24, 9], np.uint32))
            assert int(coder.decode(models.models[level])) == symbol


def test_round_trip_with_escapes(models):
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 64, 5000).astype(np.int32)
    values = np.clip(np.rint(rng.normal(size=5000) * 3), -LARGEST, LARGEST).astype(np.int32)
    values[:6] = [LARGEST, -LARGEST, 0, 16, 17, -17]
    indices[:6] = 0  # reach 16
    writer = StreamWriter()
    writer.put(models, values[:2000], indices[:2000])
    writer.put(models, values[2000:], indices[2000:])
    data = writer.finish(models)
    assert writer.bits / 8 - 1 <= len(data) <= writer.bits / 8 + 8
    reader = StreamReader(models, data, "s1")
    assert np.array_equal(reader.get(models, indices[:2000]), values[:2000])
    assert np.array_equal(reader.get(models, indices[2000:]), values[2000:])
    assert reader.finish(last=True) == b""


@pytest.mark.parametrize("count", [0, 1, 2, 3, 300])
def test_each_stream_carries_the_start_of_the_next(models, count):
    rng = np.random.default_rng(count)
    values = [np.rint(rng.normal(size=count) * 4).astype(np.int32) for _ in range(4)]
    indices = np.full(count, 40, np.int32)
    writers = [StreamWriter() for _ in values]
    for writer, part in zip(writers, values, strict=True):
        writer.put(models, part, indices)
    streams = finish_all(writers, models)
    assert sum(map(len, streams)) <= sum(writer.bits for writer in writers) / 8 + 5
    carried = None
    for i, (stream, expected) in enumerate(zip(streams, values, strict=True)):
        reader = StreamReader(models, stream, "s", carried)
        assert np.array_equal(reader.get(models, indices), expected)
        carried = reader.finish(last=i == 3)


def test_a_stream_for_other_symbols_is_refused(models):
    values, indices = np.arange(-5, 5, dtype=np.int32), np.full(10, 30, np.int32)
    writer = StreamWriter()
    writer.put(models, values, indices)
    data = writer.finish(models)
    reader = StreamReader(models, data, "s2")
    reader.get(models, indices[:9])
    with pytest.raises(BitstreamError, match="the stream s2 is damaged"):
        reader.finish(last=True)
    reader = StreamReader(models, data, "s2")
    with pytest.raises(BitstreamError, match="the stream s2 is damaged"):
        reader.finish()  # ten symbols are more than it may carry
    with pytest.raises(BitstreamError, match="ends in a zero byte"):
        StreamReader(models, data + b"\0", "s2")


def test_a_table_with_a_wrong_sum_is_refused(codec):
    arrays = codec.tables.arrays()
    gaussian, z = arrays["tables.gaussian"].copy(), arrays["tables.z"]
    gaussian[0] += 1
    with pytest.raises(CodecModelError, match="does not sum to 16777216"):
        TableSet.from_arrays(gaussian, z, len(z))
    with pytest.raises(CodecModelError, match="another size"):
        TableSet.from_arrays(gaussian[1:], z, len(z))
    with pytest.raises(CodecModelError, match="not finite"):
        integer_table(np.array([np.nan, 1.0]))


def test_without_constriction_the_remedy_is_named(codec, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(UsageError, match=r"pip install 'relatent\[codec\]'"):
        TableModels(codec.tables.gaussian)
