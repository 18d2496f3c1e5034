"""Base class of formats that write a folder: provenance, checksums, README, and protection of other files."""

import contextlib
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TextIO

import numpy as np

from ...engine.autoencoders.scaling import BatchNormScaling, FactorScaling, identity_scaling
from ...engine.errors import UsageError
from ...engine.inputs.views import FLIPPED, PLAIN, VIEWS
from ...engine.records import Outcome, Record
from ...engine.runtime.atomic import file_sha256
from ..files.checksums import SUMS
from .destination import PROVENANCE, check_replaceable, read_provenance
from .exporter import SCHEMA, Exporter
from .labels import class_of

CLASSES = "classes.json"
SOURCES = "sources.jsonl"


class FolderExporter(Exporter):
    """Exporter of a folder with `relatent.json`, `SHA256SUMS`, `README.md` and `sources.jsonl` beside the format's own
    files. `sources.jsonl` names the file that each picture was read from and its checksum, so that a stale cache is seen.

    A format implements `add`, and `finish` if something is left to write at the end. Every file is written inside
    `with self.new_file(name) as path`, which keeps it in the folder and adds its checksum.
    """

    name: ClassVar[str]  # name in the registry
    shift_subtracted: ClassVar[bool] = (
        False  # scaled latents are (z - shift_factor) * scaling_factor if True, else z * scaling_factor
    )
    channels: ClassVar[int | None] = None  # number of channels that the consumer requires; None: any
    consumer_factors: tuple[float, ...] = ()  # factors by which the consumer multiplies unscaled latents
    per_split: ClassVar[bool] = False  # a folder per split, if several: a consumer reads a folder whole

    def open(self) -> None:
        self.temporary.mkdir(parents=True)
        self.counts: Counter[str] = Counter()  # number of pictures by split
        self.views: Counter[str] = Counter()  # number of outcomes by view
        self.labels = {name: index for index, name in enumerate(self.header.classes)}
        self.labelled = False  # whether labels were written, so that classes.json is needed
        self.notes: list[str] = []  # deviations from what was requested, for README.md and relatent.json
        self.sums: TextIO = (self.temporary / SUMS).open("w", encoding="utf-8", newline="\n")
        self.sources: TextIO = (self.temporary / SOURCES).open("w", encoding="utf-8", newline="\n")

    def write(self, records: list[Record]) -> None:
        for record in records:
            self._check(record)
            self.add(record)
            self.sources.write(json.dumps(self.source_facts(record), ensure_ascii=False) + "\n")
            self.counts[record.split] += 1
            self.views.update(view.name for view, _ in record.all_views())

    @classmethod
    def check_vae(cls, vae: dict[str, Any]) -> None:
        if vae["latent_channels"] is not None:
            cls._check_channels(vae["latent_channels"])

    @abstractmethod
    def add(self, record: Record) -> None:
        """Write or buffer one picture."""

    def source_facts(self, record: Record) -> dict[str, Any]:
        """Return the line of a picture that was just added in `sources.jsonl`."""
        return {
            "name": record.name,
            "split": record.split,
            "source_path": record.source_path,
            "source_sha256": record.source_sha256 or None,
        }

    def finish(self) -> None:
        """Write what is still buffered."""

    def close(self) -> None:
        if not self.counts:
            raise UsageError("nothing to write: the run has no finished picture")
        self.finish()
        if self.labelled and self.header.classes:
            self.write_json(CLASSES, {"classes": list(self.header.classes)})
        self.sources.close()
        with self.new_file(SOURCES):
            pass  # it is complete, and gets its checksum
        self.write_text("README.md", self.readme())
        self.write_json(PROVENANCE, self.provenance())
        self.sums.close()

    def abort(self) -> None:
        self.sources.close()
        self.sums.close()

    @contextlib.contextmanager
    def new_file(self, name: str | PurePosixPath) -> Iterator[Path]:
        """Yield the path at which to write `name`, relative to the folder; afterwards its checksum is recorded.

        Raises `ValueError` for a name that leads outside the folder.
        """
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"a file of an export must lie inside its folder, found {name!s}")
        path = self.temporary / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        self.sums.write(f"{file_sha256(path)}  {relative}\n")

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` as strict JSON."""
        self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write `text` in UTF-8."""
        with self.new_file(name) as path:
            path.write_text(text, encoding="utf-8")

    def place(self, record: Record) -> PurePosixPath:
        """Return the folder of a picture's split; "." if the run has only one split or `per_split` is False."""
        one = not self.per_split or len(self.header.splits) == 1
        return PurePosixPath() if one else PurePosixPath(record.split)

    def label(self, record: Record) -> int:
        """Return the label of the picture's class; -1 if the header holds no classes."""
        self.labelled = True
        return self.labels[class_of(record)] if self.labels else -1

    def mirrored(self, record: Record) -> Outcome:
        """Return the outcome of the mirrored picture. Raises `UsageError` if the run was made without --flip."""
        if FLIPPED not in record.views:
            raise UsageError(
                f"{self.name} reads a mirrored latent beside each latent, and a flipped array is none: "
                "optimise the pictures again with --flip"
            )
        return record.views[FLIPPED]

    def stored(self, latents: np.ndarray) -> np.ndarray:
        """Return latents (C, h, w) fp32 as they are stored, scaled if the format requires it."""
        vae = self.header.vae
        if not self.latents_scaled:
            return np.ascontiguousarray(latents, np.float32)
        scaling = identity_scaling(vae)
        if isinstance(scaling, BatchNormScaling) and any(
            side % patch for side, patch in zip(latents.shape[-2:], scaling.patch_size, strict=True)
        ):
            cell = scaling.patch_size[0] * (vae["downscale_factor"] or 1)
            raise UsageError(
                f"{self.name} packs latents by {scaling.patch_size}: sizes must be multiples of {cell} pixels"
            )
        if not isinstance(scaling, FactorScaling):
            return np.ascontiguousarray(scaling.scale(latents), np.float32)
        shift = vae["shift_factor"] if self.shift_subtracted else 0.0
        return ((latents - np.float32(shift)) * np.float32(vae["scaling_factor"])).astype(np.float32)

    def planar(self, latents: np.ndarray) -> np.ndarray:
        """Return latents (C, h, w) of a still picture, given as they are or with a time axis, (C, 1, h, w).

        Raises `UsageError` for a clip.
        """
        if latents.ndim == 4 and latents.shape[1] == 1:
            return latents[:, 0]
        if latents.ndim != 3:
            raise UsageError(f"{self.name} takes latents of still pictures, (C, h, w); found {latents.shape}")
        return latents

    def pixels(self, record: Record) -> tuple[int, int]:
        """Return height and width in pixels of what a picture's latents decode to.

        8 pixels per cell are assumed where neither the autoencoder nor a picture tells.
        """
        if record.images:
            height, width = record.images["original"].shape[:2]
            return height, width
        height, width = record.optimized_latents.shape[-2:]
        cell = self.header.vae["downscale_factor"] or 8
        return height * cell, width * cell

    def size_text(self, rectangle: str = "{}x{}") -> str:
        """Return the size of all targets for a trainer's configuration: the side of a square, width and height by
        `rectangle`, or SIZE if there are several."""
        size = self.header.size
        return rectangle.format(*size) if isinstance(size, tuple) else str(size or "SIZE")

    def provenance(self) -> dict[str, Any]:
        """Return the contents of `relatent.json`."""
        header = self.header
        return {
            "schema": SCHEMA,
            "format": self.name,
            "created": header.created,
            "relatent_version": header.relatent_version,
            "vae": header.vae,
            "config": header.config,
            "settings": {} if header.settings is None else asdict(header.settings),
            "latents_scaled": self.latents_scaled,
            "shift_subtracted": self.latents_scaled and self.shift_subtracted,
            "scaling_factor": header.vae["scaling_factor"],
            "shift_factor": header.vae["shift_factor"],
            "counts": {
                "total": self.counts.total(),
                **{name: self.views[name] for name in VIEWS if name != PLAIN},
                "splits": dict(self.counts),
            },
            "sources": SOURCES,
            "notes": self.notes,
        }

    def scaling(self) -> str:
        """Return a sentence that states how the latents are stored."""
        factor, shift = self.header.vae["scaling_factor"], self.header.vae["shift_factor"]
        kind = identity_scaling(self.header.vae).kind
        if self.latents_scaled and kind != FactorScaling.kind:
            return f"Latents are stored **scaled**, by the autoencoder's `scaling` of kind `{kind}` in `{PROVENANCE}`."
        if self.latents_scaled:
            formula = f"(z − {shift:g}) · {factor:g}" if self.shift_subtracted else f"z · {factor:g}"
            return f"Latents are stored **scaled**: {formula}, where z is what the decoder takes."
        return f"Latents are stored **unscaled**, as the decoder takes them (scaling_factor {factor:g}, shift_factor {shift:g})."

    def where(self) -> str:
        """Return a phrase for the part of the folder that a consumer is given as its path."""
        if not self.per_split or len(self.header.splits) == 1:
            return "this folder"
        return f"one of the folders {', '.join(f'`{split}/`' for split in self.counts)}"

    def about(self) -> str:
        """Return a description of the folder and how its consumer is configured to read it, in Markdown."""
        return ""

    def readme(self) -> str:
        """Return the contents of `README.md`."""
        factor = self.header.vae["scaling_factor"]
        if self.consumer_factors and factor not in self.consumer_factors:
            known = " or ".join(f"{value:g}" for value in self.consumer_factors)
            self.notes.append(
                f"the trainer itself multiplies by {known}, this autoencoder's scaling_factor is {factor:g}: "
                "set the trainer's, or it trains at another scale"
            )
        text = f"# {self.counts.total()} optimised latents of `{self.header.vae['name']}`, as {self.name}\n\n"
        text += f"Made by relatent on {self.header.created}. {self.scaling()}\n"
        if about := self.about().strip():
            text += f"\n{about}\n"
        if self.notes:
            text += "\n## Mind\n\n" + "".join(f"- {note}\n" for note in self.notes)
        return text + f"\n`{PROVENANCE}` says where all this comes from; `sha256sum -c {SUMS}` checks it.\n"

    @classmethod
    def run_began(cls, place: Path) -> str | None:
        found = read_provenance(place)
        return None if found is None else found.get("created")

    def check_destination(self) -> None:
        """Raise `UsageError` unless the destination is absent, empty, or an export of relatent and nothing else."""
        check_replaceable(self.destination, self.name)

    @classmethod
    def _check_channels(cls, channels: int) -> None:
        """Raise `UsageError` for a number of channels that the consumer does not take."""
        if cls.channels is not None and channels != cls.channels:
            raise UsageError(f"{cls.name} takes latents of {cls.channels} channels, those of this run have {channels}")

    def _check(self, record: Record) -> None:
        """Raise `UsageError` for a record that the format cannot hold."""
        self._check_channels(len(record.optimized_latents))
        if self.needs_images and not record.images:
            raise UsageError(f"the run kept no pictures (--no-images), so it cannot be exported as {self.name}")
        if self.needs_square and (self.header.settings is not None and not isinstance(self.header.size, int)):
            raise UsageError(
                f"{self.name} is for a trainer of squares of one size: optimise the pictures with --size N"
            )
        if self.needs_flip:
            self.mirrored(record)
        settings = self.header.settings
        if self.needs_crop and settings is not None and settings.fit == "pad":
            (height, width), (target_height, target_width) = record.original_size, self.pixels(record)
            if height * target_width != width * target_height:
                raise UsageError(
                    f"{self.name} crops pictures, and those of this run are padded: optimise with --fit crop"
                )
