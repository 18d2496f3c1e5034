"""What `relatent verify` found."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Damage:
    """One file that is not what the run recorded."""

    file: Path
    what: str
    remedy: str
    shard: int | None = None  # its number, where it is one, which can be made again
    export: str | None = None  # its path in the ledger, where it is an output, which can be written again

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.remedy}"

    def to_dict(self) -> dict[str, str]:
        return {"file": str(self.file), "what": self.what, "remedy": self.remedy}


@dataclass
class Findings:
    """Of one pass over a run."""

    status: str  # run.json's
    planned: int = 0  # shards
    finished: int = 0
    unfinished: list[int] = field(default_factory=list)
    pictures: int = 0  # in finished shards that are sound
    outputs: int = 0  # checked
    damage: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # worth knowing, not wrong
    sample: dict[str, Any] = field(default_factory=dict)  # see `verify_sample.decode_sample`

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "status": self.status,
            "shards": {"planned": self.planned, "finished": self.finished, "unfinished": self.unfinished},
            "pictures": self.pictures,
            "outputs": self.outputs,
            "damage": [one.to_dict() for one in self.damage],
            "notes": self.notes,
            "sample": self.sample,
        }
