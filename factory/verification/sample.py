"""Verification of a sample of latents: they must decode to the PSNR that was recorded for them."""

import random
from typing import Any

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.errors import RelatentError
from ...engine.inputs.images import LoadedImage
from ...engine.inputs.prefetch import Reader
from ...engine.inputs.views import PLAIN
from ...engine.losses.metrics import psnr
from ...engine.records import Record
from ...engine.runtime.cuda_flags import exact_fp32
from ...exporters.hdf5.reading import open_file, read_rows
from ..executors.worker import check_identity, reload_autoencoder
from ..state.ledger import Shard
from ..state.run_folder import RunFolder

PICTURES = 8  # maximum size of the sample
WITHIN = 0.05  # tolerated difference in dB


def decode_sample(
    folder: RunFolder, shards: list[Shard], autoencoder: Autoencoder | None, device: str | None
) -> tuple[dict[str, Any], dict[int, str]]:
    """Decode a fixed sample: the first picture, the last, and some between, always the same ones.

    autoencoder: the run's, if it was passed as an object in memory; None loads it as the run did.
    Returns a report {`decoded`, `largest_difference_db` or None, `not_decoded`: the reason or None}, and what is wrong,
    by the number of the shard.
    """
    where = [(shard, row) for shard, row in _choose(shards)]
    report: dict[str, Any] = {"decoded": 0, "largest_difference_db": None, "not_decoded": None}
    wrong: dict[int, str] = {}
    if not where:
        return report, wrong
    try:
        if autoencoder is None:
            autoencoder = reload_autoencoder(folder, device)
        else:
            check_identity(folder, autoencoder)
        reader = folder.reader(autoencoder.cell)
        for shard, row in where:
            with open_file(folder.shard_path(shard.number)) as file:
                record = read_rows(file, slice(row, row + 1))[0]
            target = _target(folder, shard, record, reader)
            if isinstance(target, str):
                report["not_decoded"] = target
                continue
            for difference, words in _differences(autoencoder, record, target):
                report["largest_difference_db"] = max(report["largest_difference_db"] or 0.0, difference)
                if difference > WITHIN:
                    wrong.setdefault(shard.number, words)
            report["decoded"] += 1
    except RelatentError as error:  # the autoencoder or the masks are not available here
        report["not_decoded"] = str(error)
    except torch.OutOfMemoryError:
        report["not_decoded"] = "not enough memory"
    return report, wrong


def _choose(shards: list[Shard]) -> list[tuple[Shard, int]]:
    """Return the sampled pictures as pairs of shard and row."""
    total = sum(shard.images for shard in shards)
    chosen = {0, total - 1} if total else set()
    between = range(1, max(1, total - 1))
    chosen |= set(random.Random(0).sample(between, min(len(between), PICTURES - 2)))
    found, start = [], 0
    for shard in shards:
        found += [(shard, index - start) for index in sorted(chosen) if start <= index < start + shard.images]
        start += shard.images
    return found


def _target(folder: RunFolder, shard: Shard, record: Record, reader: Reader) -> LoadedImage | str:
    """Return the picture as it was optimised for, or the reason why it is not available."""
    if record.images and reader.masks is None:
        return LoadedImage(record.images["original"], record.original_size, record.conversions)
    source = next(row.source for row in folder.plan.rows(shard.number) if row.source.name == record.name)
    image = reader.read(source)
    return image if isinstance(image, LoadedImage) else f"{image.source_path}: {image.reason}"


@torch.no_grad()
@exact_fp32()
def _differences(autoencoder: Autoencoder, record: Record, image: LoadedImage) -> list[tuple[float, str]]:
    """Return the PSNR difference in dB, and its description, for each view of the picture."""
    target = image.tensor().to(autoencoder.device)
    weight = None if image.mask is None else image.weight().to(autoencoder.device)
    found = []
    for view, outcome in record.all_views():
        latents = torch.from_numpy(outcome.optimized_latents).unsqueeze(0).to(autoencoder.device)
        weights = None if weight is None else view.apply_to_planes(weight)
        value = psnr(autoencoder.decode(latents), view.apply_to_planes(target), weights).item()
        recorded = outcome.metrics["final_psnr"]
        name = record.name if view.name == PLAIN else f"{record.name}, {view.label},"
        found.append((abs(value - recorded), f"{name} decodes to {value:.2f} dB, {recorded:.2f} dB recorded"))
    return found
