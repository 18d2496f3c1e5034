"""What a file of maps says of all of them, in its root attributes."""

import json
from dataclasses import dataclass
from typing import Any

import h5py

from ....engine.errors import DatasetError
from ....engine.version import VERSION

SCHEMA = "relatent-anomaly-maps/1"
KIND = "anomaly-maps"


@dataclass(frozen=True)
class MapHeader:
    """Where the maps of a file come from, and which optional columns it has.

    created: when the run began, ISO 8601 in UTC. synthetic: whether the volumes are, None where it is not known.
    keep_volumes: with volumes and reconstructions. masks: with masks.
    """

    method: str
    identity: dict[str, Any]
    created: str
    synthetic: bool | None = None
    keep_volumes: bool = True
    masks: bool = False
    relatent_version: str = VERSION

    def write(self, file: h5py.File) -> None:
        """Write the root attributes."""
        file.attrs["schema"] = SCHEMA
        file.attrs["kind"] = KIND
        file.attrs["method"] = self.method
        file.attrs["identity"] = json.dumps(self.identity)
        file.attrs["model_sha256"] = str(self.identity.get("model_sha256") or "")
        file.attrs["relatent_version"] = self.relatent_version
        file.attrs["created"] = self.created
        if self.synthetic is not None:
            file.attrs["synthetic"] = self.synthetic

    @classmethod
    def read(cls, file: h5py.File) -> "MapHeader":
        """The header of an open file. Raises `DatasetError` where it is damaged."""
        try:
            identity = json.loads(file.attrs["identity"])
            if not isinstance(identity, dict) or file.attrs["kind"] != KIND:
                raise ValueError("it is of another kind")
            synthetic = file.attrs.get("synthetic")
            return cls(
                str(file.attrs["method"]),
                identity,
                str(file.attrs["created"]),
                None if synthetic is None else bool(synthetic),
                "volume" in file,
                "mask" in file,
                str(file.attrs["relatent_version"]),
            )
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise DatasetError(f"{file.filename} is damaged: its root attributes: {error}") from error
