"""Passes over pictures: which picture is which, order, slots, memory."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from relatent import OptimizationConfig
from relatent.engine.inputs.prefetch import LoadedSource, prefetch
from relatent.engine.inputs.sources import discover
from relatent.engine.optimization.batcher import ImageRun
from relatent.engine.records import Failure, Record

QUICK = OptimizationConfig(iterations=3)


def planned(folder):
    """The sources with their files' hashes, as a run's plan has them."""
    return [
        dataclasses.replace(source, sha256=hashlib.sha256(Path(source.path).read_bytes()).hexdigest())
        for source in discover(folder)
    ]


def one_pass(batcher, pictures):
    """All outcomes of one pass."""
    return [outcome for outcomes in batcher.batches(pictures, len(pictures)) for outcome in outcomes]


def test_batches_yield_in_order_with_phases(photographs, small_vae):
    batcher = ImageRun(small_vae, QUICK, 32, batch_size=3, keep_images=False)
    pictures = map(batcher.reader.load, discover(photographs))
    outcomes = list(batcher.batches(pictures, 4))
    assert [len(outcome) for outcome in outcomes] == [3, 1]
    assert all(isinstance(item, Record) and item.images == {} for outcome in outcomes for item in outcome)
    assert set(batcher.seconds) == {"load", "encode", "compile", "optimize"}
    assert not any(isinstance(item, Failure) for outcome in outcomes for item in outcome)
    assert outcomes[0][0].initial_latents.dtype == np.float32


def test_a_name_keeps_its_own_picture_and_hash_in_any_order(photographs, small_vae):
    sources = planned(photographs)
    batcher = ImageRun(small_vae, QUICK, 32, batch_size=2)
    pixels = {source.name: batcher.reader.read(source).pixels for source in sources}
    for order in (sources[::-1], sources[2:] + sources[:2]):
        records = one_pass(batcher, [batcher.reader.load(source) for source in order])
        assert [record.name for record in records] == [source.name for source in order]
        for record, source in zip(records, order, strict=True):
            assert np.array_equal(record.images["original"], pixels[record.name])
            assert np.array_equal(record.target, pixels[record.name])
            assert record.source_sha256 == source.sha256
            assert (record.source_path, record.split) == (source.relative, source.split)


@pytest.mark.parametrize("workers", [0, 1])
def test_passes_share_one_iterator_and_take_exactly_their_own(photographs, small_vae, workers):
    """Also with a file that cannot be read at the end of a pass, and a pass that has a single picture."""
    (photographs / "test" / "a broken one.png").write_text("no picture")
    sources = planned(photographs)
    batcher = ImageRun(small_vae, QUICK, 32, batch_size=2)
    pixels = {source.name: batcher.reader.read(source) for source in sources}
    pictures = prefetch(batcher.reader, range(len(sources)), sources.__getitem__, workers)
    found = []
    for count in (3, 1, 0, 1):
        outcomes = [outcome for batch in batcher.batches(pictures, count) for outcome in batch]
        assert len(outcomes) == count
        found += outcomes
    assert next(pictures, None) is None
    assert [outcome.name for outcome in found] == [source.name for source in sources]
    for outcome in found:
        if isinstance(outcome, Failure):
            assert outcome == pixels[outcome.name]
        else:
            assert np.array_equal(outcome.images["original"], pixels[outcome.name].pixels)
    assert sum(isinstance(outcome, Failure) for outcome in found) == 1


def test_pictures_that_end_early_are_an_error(photographs, small_vae):
    batcher = ImageRun(small_vae, QUICK, 32, batch_size=3)
    pictures = [batcher.reader.load(source) for source in discover(photographs)]
    assert all(isinstance(picture, LoadedSource) for picture in pictures)
    with pytest.raises(ValueError, match="expected 5 pictures, found 4"):
        list(batcher.batches(pictures, 5))
