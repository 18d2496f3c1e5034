"""The contents of run.json: the configuration of a run, its progress, and its outputs."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ...engine.errors import DatasetError
from ...engine.inputs.views import PLAIN, VIEWS
from ...engine.optimization.config import OptimizationConfig
from ...engine.records import Failure
from ...exporters.base.exporter import SCHEMA
from ...exporters.base.header import Header
from .json_fields import read_fields
from .settings import CHANGEABLE_SETTINGS, RunSettings

RENAMED = {"polish_iterations": "refinement_iterations"}  # keys of version 0.1.0 in `config` and `engine`


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The contents of run.json, field for field; JSON-ready unless a field has a type of its own.

    The record is immutable: `RunFolder.update` replaces it.
    """

    schema: str = SCHEMA
    status: str  # running, exporting, done, interrupted or failed
    created: str  # when the run began: ISO 8601, UTC
    settings: RunSettings
    config: dict[str, Any]  # OptimizationConfig.to_dict()
    vae: dict[str, Any]  # Autoencoder.identity()
    latents_scaled: bool = False  # False: latents are unscaled, as the decoder takes them
    value_range: str = "[-1, 1]"  # range of the targets' pixels
    precision: str  # of the decoder in the loop, resolved: fp32, bf16 or fp16
    batch_size: int | str  # number of targets optimised at once; "auto" if the engine chooses
    hardware: dict[str, Any]  # of the process that began the run
    versions: dict[str, str]  # of relatent, Python and packages, when the run began
    counts: dict[str, int]  # pictures: total, done, failed, and, where there are any, fallback: done but not improved
    statistics: dict[str, dict[str, float]] = field(default_factory=dict)  # by metric, over the finished pictures
    latents: dict[str, Any] = field(default_factory=dict)  # LatentReport.summary()
    failures: tuple[Failure, ...] = ()
    # what was passed over in the input, by kind and reason: `Skipped.to_dict()` of each; None: not recorded then
    skipped: list[dict[str, Any]] | None = None
    outputs: dict[str, str] = field(default_factory=dict)  # paths by format
    seconds: dict[str, float] = field(default_factory=dict)  # by phase, over all attempts
    engine: dict[str, Any] | None = None  # how the engine ran in the last attempt; None: no shard was made yet
    # by view and metric, for views such as the mirrored one; run.json has one key per view, such as statistics_flipped
    view_statistics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the object that run.json holds."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        values["settings"] = self.settings.to_json()
        values["failures"] = [failure.to_dict() for failure in self.failures]
        views = values.pop("view_statistics")
        for name in ("engine", "skipped"):
            if values[name] is None:
                del values[name]
        return values | {_statistics_key(name): table for name, table in views.items()}

    @classmethod
    def from_json(cls, values: Any, place: str = "run.json") -> "RunRecord":
        """Return the record that an object of run.json holds; keys of older versions get their present names.

        place: the file, for messages. Raises `DatasetError` for another schema, a damaged object, and keys of a newer
        version.
        """
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise DatasetError(f"{place} is not of schema {SCHEMA}")
        by_key = {_statistics_key(name): name for name in VIEWS if name != PLAIN}
        views = {by_key[key]: value for key, value in values.items() if key in by_key}
        own = {key: value for key, value in values.items() if key not in by_key}
        found = read_fields(cls, own, place) | {"view_statistics": views}
        for name in ("config", "engine"):
            if found.get(name) is not None:
                found[name] = {RENAMED.get(key, key): value for key, value in found[name].items()}
        found["settings"] = RunSettings.from_json(found["settings"], f"{place}, settings")
        try:
            found["failures"] = tuple(map(Failure.from_dict, found.get("failures", ())))
        except (KeyError, TypeError) as error:
            raise DatasetError(f"{place} is damaged: failures: {error!r}") from error
        for name, keys in (("counts", ("total", "done", "failed")), ("versions", ("relatent",)), ("vae", ("name",))):
            if missing := [key for key in keys if key not in found[name]]:
                raise DatasetError(f"{place} is damaged: {name} lacks {', '.join(missing)}")
        return cls(**found)

    def header(self) -> Header:
        """Return the provenance that the run's datasets state."""
        return Header(
            self.created,
            self.versions["relatent"],
            self.vae,
            self.config,
            self.latents,
            self.settings.for_datasets(),
        )

    def optimization_config(self) -> OptimizationConfig:
        """Return the recorded configuration.

        Raises `UsageError` if its loss was a function, since only the name of a function is recorded.
        """
        return OptimizationConfig.from_dict(self.config)

    def differences(self, wanted: "RunRecord") -> list[str]:
        """Return how `wanted`, the record of a new call, differs from this one, as "name was …, now …".

        A key of the configuration that an older version did not record is compared by its default.
        """
        old, new = self.settings.to_json(), wanted.settings.to_json()
        # a run begun before there was `colour` goes on as it began
        skipped = (*CHANGEABLE_SETTINGS, *(["colour"] if self.settings.colour is None else []))
        found = [_difference(key, old.get(key), new[key]) for key in new if key not in skipped]
        old = OptimizationConfig().to_dict() | self.config
        found += [_difference(key, old.get(key), value) for key, value in wanted.config.items()]
        return [text for text in found if text] + identity_differences(self.vae, wanted.vae)


def _statistics_key(view: str) -> str:
    """Return the key of run.json for the statistics of a view other than the plain one."""
    return f"statistics{VIEWS[view].suffix}"


def identity_differences(recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return how two identities of autoencoders differ, as "name was …, now …".

    Keys that an older version did not record are not compared: the checksum of the weights tells autoencoders apart.
    """
    texts = [_difference(key, recorded[key], found[key]) for key in found if key in recorded]
    return [text for text in texts if text]


def _difference(key: str, old: Any, new: Any) -> str:
    """Return "key was old, now new" if the values differ, else an empty string."""
    return f"{key} was {old!r}, now {new!r}" if old != new else ""
