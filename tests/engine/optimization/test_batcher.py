"""Passes over pictures: which picture is which, order, slots, memory."""

import dataclasses
import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Memory, limited, picture
from PIL import Image
from relatent import OptimizationConfig
from relatent.engine.errors import RunStoppedError, UsageError
from relatent.engine.inputs.prefetch import LoadedSource, prefetch
from relatent.engine.inputs.sources import discover
from relatent.engine.optimization.batch_size import AUTO_BATCH, BatchSizeProbe
from relatent.engine.optimization.batcher import Batcher
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
    batcher = Batcher(small_vae, QUICK, 32, batch_size=3, keep_images=False)
    pictures = map(batcher.reader.load, discover(photographs))
    outcomes = list(batcher.batches(pictures, 4))
    assert [len(outcome) for outcome in outcomes] == [3, 1]
    assert all(isinstance(item, Record) and item.images == {} for outcome in outcomes for item in outcome)
    assert set(batcher.seconds) == {"load", "encode", "compile", "optimize"}
    assert not any(isinstance(item, Failure) for outcome in outcomes for item in outcome)
    assert outcomes[0][0].initial_latents.dtype == np.float32


def test_a_name_keeps_its_own_picture_and_hash_in_any_order(photographs, small_vae):
    sources = planned(photographs)
    batcher = Batcher(small_vae, QUICK, 32, batch_size=2)
    pixels = {source.name: batcher.reader.read(source).pixels for source in sources}
    for order in (sources[::-1], sources[2:] + sources[:2]):
        records = one_pass(batcher, [batcher.reader.load(source) for source in order])
        assert [record.name for record in records] == [source.name for source in order]
        for record, source in zip(records, order, strict=True):
            assert np.array_equal(record.images["original"], pixels[record.name])
            assert np.array_equal(record.target, pixels[record.name])
            assert record.source_sha256 == source.sha256
            assert (record.source_path, record.split) == (source.relative, source.split)


@pytest.mark.parametrize("mode", [torch.inference_mode, partial(torch.autocast, "cpu", torch.bfloat16)])
def test_the_callers_modes_do_not_count(photographs, small_vae, mode):
    sources = planned(photographs)[:2]
    batcher = Batcher(small_vae, dataclasses.replace(QUICK, precision="fp32"), 32, batch_size=2)
    expected = one_pass(batcher, [batcher.reader.load(source) for source in sources])
    with mode():
        found = one_pass(batcher, [batcher.reader.load(source) for source in sources])
    for record, right in zip(found, expected, strict=True):
        assert np.array_equal(record.optimized_latents, right.optimized_latents)
        assert record.metrics == right.metrics


@pytest.mark.parametrize("workers", [0, 1])
def test_passes_share_one_iterator_and_take_exactly_their_own(photographs, small_vae, workers):
    """Also with a file that cannot be read at the end of a pass, and a pass that has a single picture."""
    (photographs / "test" / "a broken one.png").write_text("no picture")
    sources = planned(photographs)
    batcher = Batcher(small_vae, QUICK, 32, batch_size=2)
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
    batcher = Batcher(small_vae, QUICK, 32, batch_size=3)
    pictures = [batcher.reader.load(source) for source in discover(photographs)]
    assert all(isinstance(picture, LoadedSource) for picture in pictures)
    with pytest.raises(ValueError, match="expected 5 pictures, found 4"):
        list(batcher.batches(pictures, 5))


def test_before_any_picture_is_finished_a_batch_that_does_not_fit_is_a_usage_error(photographs, small_vae):
    for batch_size, most, words in (
        (4, 2, "--batch-size 4 does not fit in memory; --batch-size 2 fits, auto finds out by itself"),
        (4, 0, "--batch-size 4 does not fit in memory; not even one image fits: use a smaller --size"),
        (1, 0, "one image of 32×32 pixels does not fit in memory; use a smaller --size or --precision bf16"),
        (None, 0, "one image of 32×32 pixels does not fit in memory; use a smaller --size or --precision bf16"),
    ):
        batcher = Batcher(limited(small_vae, most), QUICK, 32, batch_size=batch_size)
        with pytest.raises(UsageError, match=words):
            one_pass(batcher, [batcher.reader.load(source) for source in discover(photographs)])
        assert batcher.finished() == []


def test_a_picture_that_failed_is_none_that_was_finished(photographs, small_vae):
    (photographs / "train" / "a broken one.png").write_text("no picture")
    batcher = Batcher(limited(small_vae, 1), QUICK, 32, batch_size=2)
    pictures = [batcher.reader.load(source) for source in discover(photographs)]
    with pytest.raises(UsageError, match="--batch-size 1 fits"):
        one_pass(batcher, pictures)
    assert isinstance(batcher.finished()[0], Failure)


@pytest.mark.parametrize(
    ("batch_size", "less", "words"),
    [
        (2, 1, "--batch-size 2 does not fit in memory; --batch-size 1 fits, auto finds out by itself"),
        (2, 0, "--batch-size 2 does not fit in memory; not even one image fits"),
        (None, 0, "one image of 32×32 pixels does not fit in memory; use a smaller --size or --precision bf16"),
    ],
)
def test_after_a_finished_picture_a_batch_that_does_not_fit_stops_the_run(
    photographs, small_vae, batch_size, less, words
):
    memory = Memory(2)
    batcher = Batcher(limited(small_vae, memory), QUICK, 32, batch_size=batch_size)
    pictures = [batcher.reader.load(source) for source in discover(photographs)]
    outcomes = batcher.batches(pictures, len(pictures))
    assert [record.name for record in next(outcomes)] == ["first", "second"][: batch_size or 1]
    memory.most = less  # another program has taken it
    with pytest.raises(RunStoppedError, match=words):
        next(outcomes)


def test_finished_pictures_of_an_earlier_pass_count(photographs, small_vae):
    memory = Memory(2)
    batcher = Batcher(limited(small_vae, memory), QUICK, 32, batch_size=2)
    pictures = [batcher.reader.load(source) for source in discover(photographs)]
    assert len(one_pass(batcher, pictures[:2])) == 2
    memory.most = 1
    with pytest.raises(RunStoppedError, match="--batch-size 1 fits"):
        one_pass(batcher, pictures[2:])


def test_auto_halves_and_goes_on_whatever_was_finished(photographs, small_vae, monkeypatch):
    monkeypatch.setitem(AUTO_BATCH, "cpu", 3)
    for seed in range(4):
        Image.fromarray(picture(seed=10 + seed)).save(photographs / f"more {seed}.png")
    memory = Memory(3)
    batcher = Batcher(limited(small_vae, memory), QUICK, 32)
    pictures = [batcher.reader.load(source) for source in discover(photographs)]
    found = []
    for outcomes in batcher.batches(pictures, len(pictures)):
        found += outcomes
        memory.most = 1
    assert [record.name for record in found] == [picture.source.name for picture in pictures]
    assert all(isinstance(record, Record) for record in found)
    assert batcher.engine["batch_size"] == 1


@pytest.mark.parametrize(("most", "fits"), [(8, 8), (7, 4), (1, 1), (0, 0)])
def test_the_probe_finds_the_largest_halving_that_fits(small_vae, most, fits):
    probe = BatchSizeProbe(limited(small_vae, most), QUICK, 32, fixed=8)
    assert probe.first(100) == 8
    assert probe.largest(8) == fits
    assert probe.seconds(fits) > 0 if fits else True
