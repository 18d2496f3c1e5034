"""An encoder tuned for a run's decoder on the run's pictures."""

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..engine.autoencoders.autoencoder import Autoencoder
from ..engine.errors import UsageError
from ..engine.inputs.sizes import as_size
from ..engine.inputs.sources import Source
from ..engine.losses.metrics import from_uint8
from ..engine.records import Failure
from ..engine.tuning.settings import TuningSettings
from ..engine.tuning.training import OnLine, held_out_gain, random_crop, tune
from ..engine.tuning.tuned_encoder import kept_path, write_tuned_encoder
from ..exporters.hdf5.reading import open_file
from .attempt import installed_versions
from .executors.worker import reload_autoencoder
from .state.run_folder import RunFolder

KEPT_PICTURES = 256  # read from their files and kept in memory, each 3 bytes a pixel
HELD_OUT, MOST_HELD_OUT = 10, 16  # one picture in so many is for the measurement of the gain alone, this many at most


class RunCrops:
    """Crops of the finished pictures of a run, read from their own files again."""

    def __init__(self, folder: RunFolder, autoencoder: Autoencoder, side: int):
        """Find the pictures of at least `side` pixels a side.

        Raises `UsageError` where input files have changed or are missing, and where fewer than two pictures are large
        enough, and `DatasetError` for a damaged shard.
        """
        folder.check_inputs()
        self.run = folder.out
        self.reader = folder.reader(autoencoder.cell)
        pictures: list[Source] = []
        finished = folder.ledger.shards()
        for number in sorted(finished):
            path, size = folder.shard_path(number), folder.plan.size(number) or folder.record.settings.size
            if finished[number].file is None or size is None or min(as_size(size)) < side:
                continue
            sources = {row.source.name: row.source for row in folder.plan.rows(number)}
            with open_file(path) as file:
                pictures += [sources[name] for name in file["image_name"].asstr()[:]]
        if len(pictures) < 2:
            raise UsageError(
                f"{folder.out} has {len(pictures)} finished pictures of at least {side} pixels a side; two are the least: "
                "use a run with more, or a smaller --crop"
            )
        held = range(0, len(pictures), max(HELD_OUT, -(-len(pictures) // MOST_HELD_OUT)))
        self.held_out = [pictures[index] for index in held]
        self.pictures = [picture for index, picture in enumerate(pictures) if index not in held]
        self._pixels = lru_cache(KEPT_PICTURES)(self._read)

    def describe(self) -> dict[str, Any]:
        """Return the run's folder and the number of its pictures."""
        return {"run": str(self.run.resolve()), "pictures": len(self.pictures)}

    def picture(self, source: Source) -> torch.Tensor:
        """Return (1, 3, H, W) fp32 in [-1, 1]."""
        return from_uint8(self._pixels(source)).permute(2, 0, 1).unsqueeze(0)

    def sample(self, count: int, side: int, generator: torch.Generator) -> torch.Tensor:
        """Return random crops of random pictures: see `engine.tuning.training.Crops`."""
        found = []
        for _ in range(count):
            pixels = self._pixels(self.pictures[int(torch.randint(len(self.pictures), (), generator=generator))])
            found.append(random_crop(pixels, side, generator))
        return torch.stack(found)

    def _read(self, source: Source) -> torch.Tensor:
        """Return the pixels of a picture, uint8 (H, W, 3)."""
        image = self.reader.read(source)
        if isinstance(image, Failure):
            raise UsageError(f"the run's pictures must still be there: {source.path}: {image.reason}")
        return torch.from_numpy(image.pixels)


def tune_encoder(
    run: str | Path,
    settings: TuningSettings | None = None,
    output: str | Path | None = None,
    *,
    device: str | None = None,
    on_line: OnLine = lambda line: None,
) -> dict[str, Any]:
    """Tune the encoder of a finished run's autoencoder for its decoder, and write it to `output`; None: the user's cache, where
    `start = tuned` finds it.

    The run's pictures must still be where they were. An interrupted tuning goes on with the same call: its checkpoint lies
    beside the output until the end. Returns `path`, `sha256`, and `facts`, which the file holds too: settings, pictures,
    versions, and `gain_db`, the mean gain over the encoder at zero iterations on pictures that were held out.
    Raises `DatasetError` where there is no run, and `UsageError` where its autoencoder cannot be tuned or has changed.
    """
    settings = settings or TuningSettings()
    folder = RunFolder.open(Path(run))
    autoencoder = reload_autoencoder(folder, device)
    autoencoder.check_size(settings.crop)
    crops = RunCrops(folder, autoencoder, settings.crop)
    path = kept_path(autoencoder) if output is None else Path(output)
    checkpoint = path.with_suffix(".checkpoint")
    tuned = tune(autoencoder, crops, settings, checkpoint, on_line)
    facts = {
        "settings": asdict(settings),
        "crops": crops.describe(),
        "gain_db": round(held_out_gain(autoencoder, tuned, [crops.picture(source) for source in crops.held_out]), 3),
        "held_out": len(crops.held_out),
        "versions": installed_versions(),
    }
    sha256 = write_tuned_encoder(path, autoencoder, tuned, facts)
    checkpoint.unlink(missing_ok=True)
    return {"path": str(path), "sha256": sha256, "facts": facts}
