"""The results of `relatent verify`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Damage:
    """One file that differs from what the run recorded."""

    file: Path
    what: str
    remedy: str
    shard: int | None = None  # number of the shard, if the file is one; it can be made again
    export: str | None = None  # path in the ledger, if the file is an output; it can be exported again

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.remedy}"

    def to_dict(self) -> dict[str, str]:
        """Return a JSON-ready dictionary with the keys `file`, `what` and `remedy`."""
        return {"file": str(self.file), "what": self.what, "remedy": self.remedy}


@dataclass
class Findings:
    """The results of one verification pass over a run."""

    status: str  # status of the run, from run.json
    planned: int = 0  # number of shards in the plan
    finished: int = 0
    unfinished: list[int] = field(default_factory=list)
    pictures: int = 0  # number of pictures in undamaged finished shards
    outputs: int = 0  # number of outputs checked
    damage: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # informational, not damage
    sample: dict[str, Any] = field(default_factory=dict)  # see `sample.decode_sample`
    inputs: dict[str, Any] | None = None  # pictures `checked` (their number) and `changed`; None: they were not read

    def to_dict(self) -> dict[str, Any]:
        """Return the results as a JSON-ready dictionary."""
        return {
            "status": self.status,
            "shards": {"planned": self.planned, "finished": self.finished, "unfinished": self.unfinished},
            "pictures": self.pictures,
            "outputs": self.outputs,
            "damage": [one.to_dict() for one in self.damage],
            "notes": self.notes,
            "sample": self.sample,
            "inputs": self.inputs,
        }
