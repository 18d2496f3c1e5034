"""The folder of a run that makes maps: begun, or gone on with where it is the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....engine.errors import UsageError
from ....engine.runtime.atomic import discard, file_sha256, write_json
from ....factory.state.ledger import Ledger, Shard, now
from ..data.volume import Volume
from .header import KIND, SCHEMA
from .plan import PlannedVolume, plan_volumes, read_plan
from .run_record import LEDGER, RECORD, SETTINGS, SHARDS, differences, read_record, shard_count, shard_path

NAMED = 3  # differences that an error names


class MapRunFolder:
    """The files of one run. `record` is what run.json holds, `plan` its volumes. The caller holds the run's lock."""

    def __init__(self, out: Path, record: dict[str, Any], plan: list[PlannedVolume]) -> None:
        self.out, self.record, self.plan = out, record, plan
        self.ledger = Ledger(out / LEDGER)

    @classmethod
    def begin(cls, out: Path, record: dict[str, Any], volumes: Sequence[Volume]) -> "MapRunFolder":
        """Begin the run of `record`, without its `volumes`, or open the same run if `out` already holds it.

        Volumes that failed may have changed: their shards are made again. Raises `UsageError` where `out` holds another run or a
        volume has changed, naming the differences, and `DatasetError` where its files are damaged.
        """
        if not (out / RECORD).exists():
            plan = plan_volumes(volumes)
            folder = cls(out, record, plan)
            folder.save()
            return folder
        old = read_record(out)
        planned = read_plan(old["volumes"], out / RECORD)
        plan = plan_volumes(volumes, planned)
        folder = cls(out, old, planned)
        folder.ledger.mend()
        before, wanted = ({key: one[key] for key in SETTINGS} for one in (old, record))
        found = list(differences(before, wanted))
        found += folder._changes(plan)
        if found:
            more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
            raise UsageError(
                f"{out} holds maps of another run: {'; '.join(found[:NAMED])}{more}. Go on with what it was begun with, or choose "
                "another OUT"
            )
        folder._renew(plan)
        old["formats"] = list(dict.fromkeys([*old["formats"], *record["formats"]]))
        return folder

    def save(self, **changes: Any) -> None:
        """Write run.json with these keys changed."""
        self.record |= changes
        self.record["volumes"] = [one.to_json() for one in self.plan]
        write_json(self.out / RECORD, {"schema": SCHEMA, "kind": KIND, **self.record})

    def rows(self, number: int) -> list[PlannedVolume]:
        """The volumes of a shard."""
        size = self.record["shard_size"]
        return self.plan[number * size : (number + 1) * size]

    def unfinished(self) -> list[int]:
        """The numbers of the shards that are not there. Those that are damaged are dropped first, and told by their SHA-256."""
        finished = self.ledger.shards()
        damaged = [number for number, shard in finished.items() if not self._is_sound(shard)]
        if damaged:
            self.ledger.drop(damaged)
        return [n for n in range(shard_count(self.record)) if n not in finished or n in damaged]

    def clean(self) -> None:
        """Remove what a killed process left unfinished."""
        for folder in (self.out, self.out / SHARDS, self.out / "maps"):
            for path in folder.glob(".*.partial-*"):
                discard(path)

    def _is_sound(self, shard: Shard) -> bool:
        if shard.file is None:
            return True
        path = shard_path(self.out, shard.number)
        return path.is_file() and path.stat().st_size == shard.bytes and file_sha256(path) == shard.sha256

    def _changes(self, plan: list[PlannedVolume]) -> list[str]:
        """How the volumes differ from those of the run, those that failed excepted."""
        names, before = ({one.name for one in some} for some in (plan, self.plan))
        if names != before:
            gone, new = sorted(before - names), sorted(names - before)
            parts = [
                f"{len(some)} volumes are {what} ({some[0]}, …)"
                for some, what in ((gone, "gone"), (new, "new"))
                if some
            ]
            return [", ".join(parts)]
        failed = self.ledger.failed()
        return [
            f"{one.source} has changed"
            for one, old in zip(plan, self.plan, strict=True)
            if one.content != old.content and (one.name not in failed or (one.mask is None) != (old.mask is None))
        ]

    def _renew(self, plan: list[PlannedVolume]) -> None:
        """Take the volumes as they are now, and drop the shards of those that failed and have changed."""
        size = self.record["shard_size"]
        changed = [i for i, (one, old) in enumerate(zip(plan, self.plan, strict=True)) if one.content != old.content]
        finished = self.ledger.shards()
        self.plan = plan
        if stale := {i // size for i in changed} & finished.keys():
            self.ledger.drop(sorted(stale))


def new_record(method: str, side: int, identity: dict[str, Any], hardware: dict[str, Any], versions: dict[str, str],
               **settings: Any) -> dict[str, Any]:  # fmt: skip
    """The run.json, without `volumes`, of a run that begins now. settings: shard_size, keep_volumes, synthetic, formats."""
    about = {"status": "running", "created": now(), "method": method, "side": side, "identity": identity}
    state = {"seconds": {}, "counts": {}, "outputs": {}, "failures": [], "hardware": hardware, "versions": versions}
    return {**about, "model_sha256": identity.get("model_sha256"), **settings, **state}
