"""Settings of a run other than the optimiser's: which pictures, how they are read, and which formats are written."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from ...exporters.base.header import DatasetSettings
from .json_fields import read_fields

# settings that may differ when a run is continued: they determine how it goes on, not its results
CHANGEABLE_SETTINGS = ("input", "formats", "shard_size", "device")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The arguments of `optimize_directory`, as run.json records them under `settings`."""

    input: str  # path of an image, a folder, or a text file of paths, as it was given
    vae: str | None  # name or absolute folder of the autoencoder; None: it was passed as an object in memory
    weights: str | None = None  # absolute folder of the named autoencoder's weights; None: the default location
    device: str | None = None  # as requested: auto, cpu, cuda, cuda:1 or mps; None: auto
    size: (
        int | tuple[int, int] | None
    )  # side of the square targets, or their (width, height), in pixels; None: several sizes
    buckets: str | None = None  # rule that gives each picture its size, see `engine.inputs.buckets`; None: another rule
    native: bool = False  # whether each picture keeps its own size, up to whole latent cells
    max_pixels: int | None = None  # with `native`, the largest number of pixels of a target; None: the default
    fit: str = "crop"  # how pictures get that size: crop, pad or none
    background: str = "white"  # colour behind transparent pixels and beside padded pictures
    # srgb: colours converted from the space each file states; as-is: left as stored. None, which means as-is: begun by
    # a version that read them so
    colour: str | None = None
    masks: str | None = None  # absolute folder with a greyscale image per picture; None: every pixel counts
    limit: int | None = None  # maximum number of pictures of each split; None: all
    keep_images: bool = True  # whether the shards keep the pictures, uint8, beside the latents
    flip: bool = False  # whether each picture is optimised mirrored left-right too; doubles the work
    seed: int = 0  # torch's random seed
    preset: str | None = None  # name of the preset that the configuration was made from; None: no preset
    shard_size: int | None = None  # pictures per shard, as requested; None: derived from their number, see plan.py
    formats: tuple[str, ...] = ("hdf5",)  # formats to export, by their names in `exporters.base.registry`
    single_file: bool = False  # whether formats that can be virtual datasets over the shards are self-contained

    @property
    def colour_in_use(self) -> str:
        """How colours are read: srgb or as-is."""
        return self.colour or "as-is"

    def to_json(self) -> dict[str, Any]:
        """Return the object that run.json holds."""
        values = asdict(self) | {"formats": list(self.formats)}
        if self.colour is None:
            del values["colour"]
        if isinstance(self.size, tuple):
            values["size"] = list(self.size)
        if self.size is not None:  # then these have no meaning
            for name in ("buckets", "native", "max_pixels"):
                del values[name]
        return values

    @classmethod
    def from_json(cls, values: Any, place: str = "settings") -> "RunSettings":
        """Return the settings that an object of run.json holds; a missing key takes the field's default.

        place: what holds the object, for messages. Raises `DatasetError` for a damaged object, and for keys of a newer
        version.
        """
        found = read_fields(cls, values, place)
        for name in ("formats", "size"):
            if isinstance(found.get(name), list):
                found[name] = tuple(found[name])
        return cls(**found)

    def for_datasets(self) -> DatasetSettings:
        """Return the subset of the settings that every dataset states."""
        return DatasetSettings(**{field.name: getattr(self, field.name) for field in fields(DatasetSettings)})
